# SPDX-License-Identifier: MIT
#
# mutate.py PORT DATA SECONDS SEED: requests of every kind, altered, cut, joined and left alone by their clients, from eight connections
# at a time. Whatever comes back, it must be no 500 of the daemon's own, and the daemon must go on.

import base64, collections, os, random, re, socket, sys, threading, time

port, data, seconds, seed = int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
photo = open(os.path.join(data, 'ship.jpg'), 'rb').read()
b64 = base64.b64encode(photo)
HOST = b'Host: 127.0.0.1\r\n'


def body(target, kind, content, more=b'', method=b'POST'):
    return b'%s %s HTTP/1.1\r\n%sContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n%s' % (method, target, HOST, kind, more, len(content), content)


two = (len(photo).to_bytes(4, 'little') + photo) * 2
head = b'{"inputs":[{"name":"image","datatype":"BYTES","shape":[2],"parameters":{"binary_data_size":%d}}],"parameters":{"binary_data_output":true}}' % len(two)
REQUESTS = [
    body(b'/predict?top_k=3&threshold=0.1', b'image/jpeg', photo),
    body(b'/predict?logits=1', b'application/json', b'{"image":{"b64":"' + b64 + b'"}}'),
    body(b'/predict', b'multipart/form-data; boundary=xx',
         b'--xx\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + photo + b'\r\n--xx--\r\n'),
    body(b'/v2/models/m/infer', b'application/json',
         b'{"id":"a","inputs":[{"name":"image","datatype":"BYTES","shape":[1],"data":["' + b64 + b'"]}],"outputs":[{"name":"logits","parameters":{"classification":3}}]}'),
    body(b'/v2/models/m/infer', b'application/octet-stream', head + two, b'Inference-Header-Content-Length: %d\r\n' % len(head)),
    body(b'/v2/models/m/versions/int8/infer', b'application/octet-stream', photo, b'Inference-Header-Content-Length: 0\r\n'),
    body(b'/precision', b'application/json', b'{"precision":"fp32"}', method=b'PUT'),
    body(b'/precision', b'application/json', b'{"precision":"int8","model":"m"}', method=b'PUT'),
    body(b'/v1/reload', b'application/json', b'{}'),
    body(b'/', b'text/plain', b'hello'),
    b'POST /predict HTTP/1.1\r\n' + HOST + b'Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n' % len(photo) + photo + b'\r\n0\r\nX: y\r\n\r\n',
    b'POST / HTTP/1.1\r\n' + HOST + b'Transfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n',
    b'GET / HTTP/1.1\r\n' + HOST + b'Cookie: ' + b'a=b; ' * 2500 + b'\r\n\r\n',
    b'GET /?' + b'a=%41&' * 200 + b' HTTP/1.1\r\n' + HOST + b'\r\n',
    b'GET /metrics HTTP/1.1\r\n' + HOST + b'Accept: application/openmetrics-text\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n',
    b'GET http://127.0.0.1/v1/status HTTP/1.1\r\n' + HOST + b'\r\n',
    b'HEAD /models HTTP/1.0\r\n\r\n',
]
PIECES = [b'\r\n', b'\n', b'\r', b'\0', b' ', b':', b';', b'0', b'\xff', b'%00', b'?' + b'&' * 300, b'HTTP/1.0', b'Content-Length: 5\r\n',
          b'Content-Length: 99999999\r\n', b'Transfer-Encoding: chunked\r\n', b'Expect: 100-continue\r\n', b'Connection: close\r\n', b'ffffffff\r\n',
          b'Cookie: ' + b'a;' * 3000 + b'\r\n', b'X: ' + b'y' * 40000 + b'\r\n', b'GET /livez HTTP/1.1\r\nHost: a\r\n\r\n']


def alter(r, request):
    b = bytearray(request)
    end = b.find(b'\r\n\r\n') + 4 if r.random() < 0.7 else len(b)  # mostly the header: bodies have fuzzers of their own
    for _ in range(r.choice([0, 1, 1, 2, 3, 6])):
        at, kind = r.randrange(max(1, min(end, len(b)))), r.random()
        if kind < 0.3 and at < len(b):
            b[at] = r.randrange(256)
        elif kind < 0.6:
            b[at:at] = r.choice(PIECES)
        elif kind < 0.75:
            del b[at:at + r.randrange(1, 20)]
        elif kind < 0.85:
            del b[at:]
        else:
            b[at:at] = b[at:at + r.randrange(1, 40)] * r.choice([1, 2, 50])
    return bytes(b)


answers, lock, bad = collections.Counter(), threading.Lock(), []
until = time.monotonic() + seconds


def client(number):
    r = random.Random(seed * 1000 + number)
    while time.monotonic() < until:
        b, got = alter(r, r.choice(REQUESTS)), b''
        if r.random() < 0.2:
            b += alter(r, r.choice(REQUESTS))
        try:
            s = socket.create_connection(('127.0.0.1', port), 30)
            s.settimeout(r.choice([0.02, 0.2, 1.5]))
            cut = r.randrange(len(b) + 1) if r.random() < 0.3 else 0
            s.sendall(b[:cut])
            time.sleep(r.choice([0, 0.001, 0.05]) if cut else 0)
            s.sendall(b[cut:])
            if r.random() < 0.3:
                s.shutdown(socket.SHUT_WR)
            while r.random() < 0.95:
                more = s.recv(65536)
                if not more:
                    break
                got += more
        except OSError:
            pass
        s.close()
        codes = re.findall(rb'HTTP/1\.1 (\d\d\d) ', got)
        with lock:
            answers[codes[0].decode() if codes else 'none'] += 1
            if b'HTTP/1.1 500 ' in got and b'problem+json' in got:
                bad.append((b[:300], got[:300]))


threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
for t in threads:
    t.start()
for t in threads:
    t.join()
s = socket.create_connection(('127.0.0.1', port), 30)
s.sendall(b'GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n')
alive = s.recv(65536).startswith(b'HTTP/1.1 200')
good = alive and not bad and answers['200'] > 100
print('altered requests: asked alive, no 500; reached %d requests (%s), %s, %d; %s' %
      (sum(answers.values()), ' '.join('%s: %d' % x for x in sorted(answers.items())), 'alive' if alive else 'dead', len(bad), 'pass' if good else 'fail'))
for b in bad[:3]:
    print(b)
sys.exit(not good)
