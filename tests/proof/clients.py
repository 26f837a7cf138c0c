# SPDX-License-Identifier: MIT
#
# clients.py - the daemon against clients that nobody wishes for: slow ones, very many idle ones, more than there are descriptors; killed,
# stopped and its clock moved under load. Called by http.sh with the names of proofs; each prints "NAME: asked, reached, pass|fail".
import http.client, os, random, re, resource, signal, socket, subprocess, sys, tempfile, threading, time

BUILD, SOURCE = os.environ.get("builddir", "."), os.environ.get("srcdir", ".")
MODEL = os.path.join(SOURCE, "models/resnet20-cifar10")
PHOTO = open(os.path.join(SOURCE, "tests/data/ship.jpg"), "rb").read()
FIRST_PORT = int(os.environ.get("PROOF_PORT", "21300"))
LIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
failed = False


def line(name, asked, reached, fine):
    global failed
    failed |= not fine
    print(f"{name}: asked {asked}; reached {reached}; {'pass' if fine else 'fail'}", flush=True)


def free_port():
    for port in range(FIRST_PORT, FIRST_PORT + 90):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise SystemExit("no free port")


class Daemon:
    def __init__(self, *options, env=None, prefix=(), port=None, listen=()):
        self.port = port or free_port()
        self.log = tempfile.TemporaryFile()
        command = [*prefix, os.path.join(BUILD, "resnetd"), "--model", MODEL, "--listen", f"127.0.0.1:{self.port}"]
        for address in listen:
            command += ["--listen", address]
        for o in options:
            command += ["-o", o]
        self.begun = time.monotonic()
        self.process = subprocess.Popen(command, stderr=self.log, env=env)
        self.pid = self.process.pid
        self.ready_s = self.wait_ready()

    def wait_ready(self, patience=30):
        while time.monotonic() - self.begun < patience:
            try:
                if self.get("/readyz")[0] == 200:
                    return time.monotonic() - self.begun
            except OSError:
                pass
            if self.process.poll() is not None:
                raise SystemExit("the daemon ended: " + self.lines()[-1])
            time.sleep(0.005)
        raise SystemExit("the daemon does not become ready")

    def connect(self, timeout=30):
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def get(self, path, timeout=30):
        with self.connect(timeout) as s:
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return reply(s)

    def lines(self):
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace").splitlines()

    def status(self, key):
        with open(f"/proc/{self.pid}/status") as f:
            return int(re.search(rf"^{key}:\s+(\d+)", f.read(), re.M)[1])

    def cpu_s(self):
        with open(f"/proc/{self.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, sig=signal.SIGTERM):
        self.process.send_signal(sig)
        return self.process.wait(60)


def reply(s):
    """-> status, body; OSError when the connection ends before a whole reply."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = s.recv(65536)
        if not more:
            raise ConnectionError("closed before a reply" if not data else "closed within a reply")
        data += more
    head, body = data.split(b"\r\n\r\n", 1)
    length = int(re.search(rb"\r\ncontent-length: (\d+)", head, re.I)[1])
    while len(body) < length:
        more = s.recv(65536)
        if not more:
            raise ConnectionError("closed within a reply")
        body += more
    return int(head[9:12]), body, b"connection: close" in head.lower()


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p / 100))]


def ask_kept(d, n):
    """n requests over one connection -> their times in ms."""
    times = []
    with d.connect() as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(n):
            begin = time.perf_counter()
            s.sendall(LIVE)
            assert reply(s)[0] == 200
            times.append((time.perf_counter() - begin) * 1000)
    return times


# ---- slow clients

SLOW = {
    "header": (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X-%d: y\r\n"),
    "body": (b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n", b"%d"),
    "read": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 400, None),
}


def slow(kind):
    deadline = 5
    limits = [f"server.{t}_timeout={deadline}s" for t in ("header", "body", "write", "idle")]
    d = Daemon("server.max_connections=200", "server.max_connections_per_address=0", *limits)
    first, more = SLOW[kind]
    stop = threading.Event()

    def attack():
        sockets = []
        for _ in range(300):
            s = socket.socket()
            if kind == "read":
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", d.port))
            sockets.append(s)
        waiting, n = set(sockets), 0
        while not stop.is_set():
            n += 1
            for s in sockets:
                try:
                    if s in waiting:
                        s.send(first)
                        waiting.discard(s)
                    elif more:
                        s.send(more % n)
                except OSError:
                    pass
            stop.wait(0.5)
        for s in sockets:
            s.close()

    attacker = threading.Thread(target=attack)
    attacker.start()
    time.sleep(1)
    waits, end = [], time.monotonic() + 3 * deadline
    while time.monotonic() < end:
        begin = time.perf_counter()
        try:
            ok = d.get("/livez", timeout=60)[0] == 200
        except OSError:
            ok = False
        waits.append((time.perf_counter() - begin) * 1000 if ok else 1e9)
        time.sleep(0.02)
    stop.set()
    attacker.join()
    d.stop()
    long = [w for w in waits if w >= 100]
    rest = percentile(sorted(waits)[:-1] or waits, 99)
    line(f"300 slow clients ({kind}), limit 200", f"one wait of at most {deadline} s, then p99 < 100 ms",
         f"{len(long)} of {len(waits)} requests waited, the longest {max(waits):.0f} ms, p99 of the others {rest:.1f} ms",
         len(long) <= 1 and max(waits) <= (deadline + 1) * 1000 and rest < 100)


def idle():
    count = 10000
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 1000, max(count + 1000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    d = Daemon(f"server.max_connections={count + 100}", "server.max_connections_per_address=0", "server.header_timeout=10m",
               "server.idle_timeout=10m")
    alone = ask_kept(d, 2000)
    before = d.status("VmRSS")
    sockets = [d.connect() for _ in range(count)]
    time.sleep(1)
    with_idle = ask_kept(d, 2000)
    after = d.status("VmRSS")
    connections = int(re.search(rb'"connections":(\d+)', d.get("/v1/status")[1])[1])
    for i in range(0, count, 10):
        sockets[i].sendall(LIVE)
        assert reply(sockets[i])[0] == 200
    time.sleep(2)
    kept = d.status("VmRSS")
    for s in sockets:
        s.close()
    d.stop()
    grown = (after - before) / 1024
    more = percentile(with_idle, 99) - percentile(alone, 99)
    line("10,000 idle connections", "<= 50 MB, p99 of a live client < 5 ms above that without",
         f"{connections} open, +{grown:.1f} MB (+{(kept - before) / 1024:.1f} MB after 1,000 of them were used), p99 {percentile(alone, 99):.2f} -> "
         f"{percentile(with_idle, 99):.2f} ms", grown <= 50 and more < 5 and connections >= count)


def descriptors():
    d = Daemon(prefix=("prlimit", "--nofile=40"))
    before = len(d.lines())
    sockets = [d.connect() for _ in range(100)]
    cpu, begin = d.cpu_s(), time.monotonic()
    time.sleep(4)
    burnt = (d.cpu_s() - cpu) / (time.monotonic() - begin)
    logged = len(d.lines()) - before
    for s in sockets:
        s.close()
    begin = time.monotonic()
    alive = d.get("/livez")[0] == 200
    took = time.monotonic() - begin
    code = d.stop()
    line("100 connections, 40 descriptors", "no spinning, <= 1 log line per second, recovers",
         f"{burnt * 100:.1f} % of a CPU, {logged} lines in 4 s, 200 after {took * 1000:.0f} ms", burnt < 0.05 and logged <= 4 and alive and
         took < 1 and code == 0)


def addresses():
    d = Daemon("server.max_connections=100", "server.max_connections_per_address=10")
    ours = [d.connect() for _ in range(40)]
    time.sleep(0.5)
    open_here = 0
    for s in ours:
        s.settimeout(0.2)
        try:
            s.sendall(LIVE)
            open_here += reply(s)[0] == 200
        except OSError:
            pass
    with socket.create_connection(("127.0.0.1", d.port), 5, ("127.0.0.2", 0)) as other:
        begin = time.perf_counter()
        other.sendall(LIVE)
        status = reply(other)[0]
        took = (time.perf_counter() - begin) * 1000
    for s in ours:
        s.close()
    d.stop()
    line("40 connections of one address, limit 10", "10 are served, another address at once", f"{open_here} served, {status} in {took:.1f} ms",
         open_here == 10 and status == 200 and took < 100)


def gone():
    """Clients of one address that hang up in the middle of a body, beside one that does not."""
    d, stop, counts = Daemon(), threading.Event(), [0]

    def hang_up():
        while not stop.wait(1 / 250):
            with d.connect() as s:
                s.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(PHOTO) + PHOTO[:1000])
            counts[0] += 1

    thread = threading.Thread(target=hang_up)
    thread.start()
    asked = refused = 0
    begin = time.monotonic()
    while time.monotonic() - begin < 5:
        asked += 1
        try:
            refused += d.get("/livez")[0] != 200
        except OSError:
            refused += 1
        time.sleep(0.002)
    stop.set()
    thread.join()
    d.stop()
    line("clients of one address that hang up within a body, 200 a second, limit 64", "nobody refused for them",
         f"{refused} of {asked} refused, {counts[0] / 5:.0f} hung up a second", refused == 0 and counts[0] > 500)


# ---- stopping

class Client(threading.Thread):
    """Asks until refused. Half of them keep their connections."""

    def __init__(self, d, kept):
        super().__init__()
        self.d, self.kept, self.answers, self.busy, self.lost = d, kept, 0, 0, []
        self.stop = False

    def run(self):
        s = None
        request = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(PHOTO) + PHOTO
        while not self.stop:
            if s is None:
                try:
                    s = self.d.connect()
                except OSError:
                    return  # nobody listens any more
            try:
                s.sendall(request)
                status, _, close = reply(s)
            except OSError as e:
                self.lost.append(str(e))
                return
            self.answers += status == 200
            self.busy += status == 503
            if status not in (200, 503):
                self.lost.append(str(status))
            if close or not self.kept:
                s.close()
                s = None


def drain(rounds=300):
    lost, slowest, answers, codes = [], 0, 0, set()
    for _ in range(rounds):
        d = Daemon()
        clients = [Client(d, i % 2) for i in range(8)]
        for c in clients:
            c.start()
        time.sleep(random.uniform(0.05, 0.25))
        begin = time.monotonic()
        codes.add(d.stop())
        slowest = max(slowest, time.monotonic() - begin)
        for c in clients:
            c.join(60)
            lost += c.lost
            answers += c.answers
    line(f"SIGTERM under load, {rounds} times", "0 requests lost, <= 2 s", f"{len(lost)} lost of {answers}, slowest stop {slowest:.2f} s, "
         f"exit {sorted(codes)}", not lost and slowest <= 2 and codes == {0})
    if lost:
        print("    ", sorted(set(lost)))


def kill(rounds=50):
    slowest, port = 0, free_port()
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "socket")
        for _ in range(rounds):
            d = Daemon(port=port, listen=[f"unix:{path}"])
            slowest = max(slowest, d.ready_s)
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(path)
                s.sendall(LIVE)
                assert reply(s)[0] == 200
            clients = [Client(d, i % 2) for i in range(4)]
            for c in clients:
                c.start()
            time.sleep(random.uniform(0.02, 0.1))
            d.stop(signal.SIGKILL)
            for c in clients:
                c.stop = True
                c.join(60)
        d = Daemon(port=port, listen=[f"unix:{path}"])
        slowest = max(slowest, d.ready_s)
        status = d.get("/livez")[0]
        code = d.stop()
        left = os.listdir(tmp)
    line(f"kill -9 under load, {rounds} times", "ready again <= 1 s, nothing damaged", f"slowest {slowest:.2f} s, then {status}, exit {code}, "
         f"{len(left)} files left", slowest <= 1 and status == 200 and code == 0 and not left)


def clock():
    library = next((p for p in ("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1")
                    if os.path.exists(p)), None)
    if not library:
        print("SKIP: clock: libfaketime is not here")
        return
    with tempfile.TemporaryDirectory() as tmp:
        offset = os.path.join(tmp, "offset")
        open(offset, "w").write("+0")
        env = dict(os.environ, LD_PRELOAD=library, FAKETIME_TIMESTAMP_FILE=offset, FAKETIME_NO_CACHE="1", FAKETIME_DONT_FAKE_MONOTONIC="1")
        d = Daemon("server.header_timeout=20s", env=env)
        slow_one = d.connect()
        slow_one.sendall(LIVE[:30])
        wrong, last, dates = [], {}, set()
        for years in (10, -10, 0, -10, 10):
            open(offset, "w").write(f"{years * 365 * 86400:+d}")
            time.sleep(0.3)
            client = http.client.HTTPConnection("127.0.0.1", d.port, timeout=10)
            client.request("POST", "/predict?timeout_ms=2000", PHOTO, {"Host": "localhost"})
            got = client.getresponse()
            got.read()
            dates.add(got.headers["Date"][12:16])
            if got.status != 200:
                wrong.append(f"/predict {got.status}")
            for text in d.get("/metrics")[1].decode().splitlines():
                if text.startswith("#") or not re.search(r"_(total|count|bucket|sum)(\{| )", text):
                    continue
                series, value = text.rsplit(" ", 1)
                if float(value) < last.get(series, 0):
                    wrong.append(f"{series} fell from {last[series]} to {value}")
                last[series] = float(value)
            if d.get("/readyz")[0] != 200:
                wrong.append("not ready")
        slow_one.sendall(LIVE[30:])
        if reply(slow_one)[0] != 200:
            wrong.append("a request that was under way")
        begin = time.monotonic()
        code = d.stop()
        if code or time.monotonic() - begin > 2:
            wrong.append(f"exit {code} after {time.monotonic() - begin:.1f} s")
    line("clock moved by 10 years, 5 times", "no timeout misfires, counters monotonic", f"years seen {sorted(dates)}, {len(last)} counters, wrong: "
         f"{wrong or 'nothing'}", not wrong and len(dates) == 3)


PROOFS = {"slow": lambda: [slow(k) for k in SLOW], "idle": idle, "descriptors": descriptors, "addresses": addresses, "gone": gone, "drain": drain,
          "kill": kill, "clock": clock}
for name in sys.argv[1:] or PROOFS:
    PROOFS[name]()
sys.exit(failed)
