# SPDX-License-Identifier: MIT
"""How fast a running daemon serves, on loopback.

serving.py overhead PORT IMAGE        what HTTP adds to a prediction; requests a second of /livez over one connection
serving.py full PORT IMAGE            time to a 503 of a daemon whose queue is full, its worker busy
serving.py batch PORT1 PORT2 IMAGE    16 clients: throughput of the second daemon (max_batch > 1) beside the first (max_batch = 1)

Prints one line per proof and ends with 1 when one of them fails. For tests/proof/serving.sh.
"""
import re
import socket
import statistics
import sys
import threading
import time

failed = 0


def say(name, asked, reached, good):
    global failed
    failed |= not good
    print(f"{name}: {asked} asked, {reached}, {'pass' if good else 'fail'}", flush=True)


class Client:
    """One kept connection that sends the same bytes again and again."""

    def __init__(self, port, method, path, body=b""):
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        self.bytes = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n".encode() + body

    def ask(self):
        """Status, body, milliseconds."""
        start = time.perf_counter()
        self.socket.sendall(self.bytes)
        got = b""
        while b"\r\n\r\n" not in got:
            got += self.socket.recv(65536)
        head, body = got.split(b"\r\n\r\n", 1)
        length = int(re.search(rb"Content-Length: (\d+)", head)[1])
        while len(body) < length:
            body += self.socket.recv(65536)
        return int(head[9:12]), body, (time.perf_counter() - start) * 1e3


def overhead(port, image):
    client, added = Client(port, "POST", "/predict", image), []
    for _ in range(2000):
        status, body, ms = client.ask()
        assert status == 200, body
        work = sum(float(x) for x in re.findall(rb'"(?:decode|preprocess|inference)":([0-9.]+)', body))
        added.append(ms - work)
    median = statistics.median(added)
    say("HTTP overhead of /predict", "<= 0.3 ms at the median", f"{median:.3f} ms", median <= 0.3)
    client, best = Client(port, "GET", "/livez"), 0
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(2000):
            client.ask()
        best = max(best, 2000 / (time.perf_counter() - start))
    say("/livez over one connection", ">= 3000 requests/s", f"{best:.0f}", best >= 3000)


def crowd(port, image, seconds, clients=16):
    """Answers with 200 in that time."""
    end, counts = time.time() + seconds, [0] * clients

    def run(i):
        client = Client(port, "POST", "/predict", image)
        while time.time() < end:
            counts[i] += client.ask()[0] == 200

    threads = [threading.Thread(target=run, args=(i,)) for i in range(clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return sum(counts)


def full(port, image):
    """A queue of 4 and threads that compute 2 images: 6 clients fill it."""
    times, end = [], time.time() + 10
    crowds = threading.Thread(target=crowd, args=(port, image, 11, 6))
    crowds.start()
    client = Client(port, "POST", "/predict", image)
    while time.time() < end:
        status, _, ms = client.ask()
        if status == 503:
            times.append(ms)
        time.sleep(0.02)
    crowds.join()
    times.sort()
    median = times[len(times) // 2] if times else float("inf")
    p90 = times[len(times) * 9 // 10] if times else float("inf")
    say("503 of a full queue", "<= 5 ms", f"{median:.2f} ms at the median, {p90:.2f} of 90 %, {max(times, default=0):.2f} the worst of {len(times)}", p90 <= 5)


def batch(ports, image):
    done = [[], []]
    for _ in range(8):
        for i in range(2):
            done[i].append(crowd(ports[i], image, 3))
    ratio = statistics.median(b / max(a, 1) for a, b in zip(*done))
    say("16 clients, max_batch = 16 beside 1", ">= 1.15 times", f"{ratio:.2f}", ratio >= 1.15)


with open(sys.argv[-1], "rb") as f:
    photo = f.read()
if sys.argv[1] == "overhead":
    overhead(int(sys.argv[2]), photo)
elif sys.argv[1] == "full":
    full(int(sys.argv[2]), photo)
else:
    batch([int(p) for p in sys.argv[2:4]], photo)
sys.exit(failed)
