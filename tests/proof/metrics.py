# SPDX-License-Identifier: MIT
#
# metrics.py PORT DATA REQUESTS SEED TEXT: random requests from eight clients, while another one reads /metrics in both formats, compares each
# reading with the one before, and leaves the last in the file TEXT.

import os, random, re, socket, sys, threading, time

port, data, total, seed, text = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
photos = [open(os.path.join(data, f), 'rb').read() for f in sorted(os.listdir(data)) if f.endswith('.jpg')]
PATHS = ['/', '/predict', '/precision', '/metrics', '/livez', '/readyz', '/models', '/v1/status', '/v2', '/v2/health/ready', '/v2/models/m',
         '/v2/models/m/versions/int8/ready', '/v2/models/m/infer', '/openapi.json', '/v1/reload', '/nothing', '/predict/', '//', '/%00', '/v2/models/../x',
         '/predict?top_k=3', '/predict?precision=fp32', '/predict?model=none', '/predict?timeout_ms=1', '/"{le="1"}', '/\\n', '*', '/' + 'x' * 3000, '/?' + 'a&' * 300, '/v2/models/m/versions/int8/infer',
         '/v2/models/m/versions/bf16', '/v2/models/none/infer', '/precision?model=m', 'http://127.0.0.1/livez', 'livez', '/' + 'x' * 100000]
METHODS = ['GET'] * 6 + ['POST'] * 6 + ['HEAD', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE', 'CONNECT', 'BREW', 'get', 'X' * 40, 'G(T', 'other', '']
VERSIONS = ['1.1'] * 40 + ['1.0', '1.2', '2.0', '0.9', '1.1x']
HEADERS = ['X-Request-Id: a-%d', 'traceparent: 00-%032x-00f067aa0ba902b7-01', 'traceparent: nonsense-%d', 'Host: evil%d.example', 'Origin: http://x%d',
           'Content-Type: application/json', 'Accept: text/x%d', 'X-%d: "\\']
RARE = ['Transfer-Encoding: chunked', 'Content-Length: 3', 'Expect: 100-continue']  # the daemon waits for what they promise
ODD = ['Content-Length: 99999999', 'Transfer-Encoding: gzip', 'Content-Encoding: gzip', 'X: y\r\n' * 150 + 'X: z', 'X: ' + 'y' * 40000, 'Host: again', ': nameless']


def request(r):
    method, path = r.choice(METHODS), r.choice(PATHS)
    if r.random() < 0.05:  # one that no list holds
        path = '/' + ''.join(r.choice('abc/.%"\\{}=,\x1b\xe4 2e0') for _ in range(r.randrange(40)))
    if r.random() < 0.02:
        method = ''.join(r.choice('ABCGETPOSU') for _ in range(r.randrange(1, 9)))
    lines = ['%s %s HTTP/%s' % (method, path, r.choice(VERSIONS)), 'Host: 127.0.0.1:%d' % port]
    for h in r.sample(HEADERS, r.choice([0, 0, 1, 1, 2])):
        lines.append(h % r.randrange(1, 1 << 30) if '%' in h else h)
    if r.random() < 0.001:
        lines.append(r.choice(RARE))
    if r.random() < 0.03:
        lines.append(r.choice(ODD))
    body = b''
    if method in ('POST', 'PUT', 'PATCH') or r.random() < 0.02:
        body = r.choice([b'', b'x', b'{}', b'{"precision":"fp32"}', b'{"precision":"int8"}', r.choice(photos), r.choice(photos)[:500], os.urandom(50)])
        lines.append('Content-Length: %d' % len(body))
        if path == '/precision':
            lines.append('Content-Type: application/json')
    return method, '\r\n'.join(lines).encode('latin-1') + b'\r\n\r\n' + body


def answer(s, method):
    """Reads one reply; False when the connection is to be closed."""
    got = b''
    while b'\r\n\r\n' not in got:
        more = s.recv(65536)
        if not more:
            return False
        got += more
    head, rest = got.split(b'\r\n\r\n', 1)
    if head.startswith(b'HTTP/1.1 100'):
        return False
    low = head.lower()
    m = re.search(rb'\ncontent-length: (\d+)', low)
    need = int(m.group(1)) if m and method != 'HEAD' else 0
    while len(rest) < need:
        more = s.recv(65536)
        if not more:
            return False
        rest += more
    return b'\nconnection: close' not in low


left, lock = [total], threading.Lock()


def client(number):
    r, s = random.Random(seed * 1000 + number), None
    while True:
        with lock:
            if not left[0]:
                return
            left[0] -= 1
        method, bytes_ = request(r)
        try:
            if s is None:
                s = socket.create_connection(('127.0.0.1', port), 30)
                s.settimeout(30)
            s.sendall(bytes_)
            if r.random() < 0.01 or not answer(s, method):
                s.close()
                s = None
        except OSError:
            s = None


def scrape(accept):
    s = socket.create_connection(('127.0.0.1', port), 60)
    s.settimeout(60)
    s.sendall(b'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAccept: ' + accept + b'\r\n\r\n')
    got = b''
    while True:
        more = s.recv(1 << 20)
        if not more:
            break
        got += more
    head, body = got.split(b'\r\n\r\n', 1)
    assert head.startswith(b'HTTP/1.1 200'), head
    return body.decode()


def series(body):
    """{series: value}, complaints."""
    out, twice = {}, []
    for line in body.splitlines():
        if line.startswith('#'):
            continue
        name, value = line.split(' # ')[0].rsplit(' ', 1)
        if name in out:
            twice.append(name)
        out[name] = float(value)
    return out, twice


status, found = 0, {'twice': set(), 'fell': set(), 'unequal': set(), 'changed': set(), 'openmetrics': set()}
try:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
except ImportError:
    parse = None
COUNTER = re.compile(r'_(total|bucket|count|sum)(\{|$)')


def check(before, body):
    now, twice = series(body)
    found['twice'].update(twice)
    found['changed'].update(set(now) ^ set(first))
    for name, value in now.items():
        if COUNTER.search(name) and value < before.get(name, 0):
            found['fell'].add('%s %g -> %g' % (name, before[name], value))
        if 'le="+Inf"' in name:
            count = name.replace('_bucket{', '_count{').replace(',le="+Inf"', '').replace('{le="+Inf"}', '')
            if now.get(count) != value:
                found['unequal'].add(name)
    return now


first, _ = series(scrape(b'text/plain'))
before, readings, begin = first, 0, time.monotonic()
threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
for t in threads:
    t.start()
while any(t.is_alive() for t in threads):
    time.sleep(1)
    om = readings % 2
    body = scrape(b'application/openmetrics-text;version=1.0.0' if om else b'text/plain')
    before = check(before, body)
    if om and parse:
        try:
            list(parse(body))
        except ValueError as e:
            found['openmetrics'].add(str(e))
    readings += 1
for t in threads:
    t.join()
seconds = time.monotonic() - begin
body = scrape(b'text/plain')
last = check(before, body)
open(text, 'w').write(body)
answered = sum(v for k, v in last.items() if k.startswith('resnetd_http_requests_total'))
codes = sorted({m.group(1) for k, v in last.items() if v for m in [re.search(r'requests_total.*code="(\w+)"', k)] if m})


def line(what, asked, reached, good):
    global status
    print('metrics: %s: %s asked, %s reached, %s' % (what, asked, reached, 'pass' if good else 'fail'))
    status |= not good


line('random requests sent', total, '%d (%d answered in %.0f s, statuses %s)' % (total, answered, seconds, ' '.join(codes)), answered > total / 2)
line('series before and after', len(first), len(last), len(first) == len(last) and not found['changed'])
for what, key in (('series twice', 'twice'), ('series that came or went', 'changed'), ('counters that fell', 'fell'),
                  ('histograms whose +Inf bucket is not their count', 'unequal')):
    line('%s in %d readings' % (what, readings), 0, '%d %s' % (len(found[key]), ' '.join(sorted(found[key])[:3])), not found[key])
if parse:
    line('readings that an OpenMetrics parser refuses', 0, '%d %s' % (len(found['openmetrics']), ' '.join(sorted(found['openmetrics'])[:3])),
         not found['openmetrics'])
else:
    print('SKIP: metrics: an OpenMetrics parser: python3-prometheus-client is not here')
sys.exit(status)
