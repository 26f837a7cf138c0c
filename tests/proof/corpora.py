# SPDX-License-Identifier: MIT
"""The corpora of images and of JSON texts, sent to a running daemon.

corpora.py URL PID CORPORA: prints one line per proof and ends with 1 when one of them fails. For tests/proof/corpora.sh.
"""
import glob
import http.client
import json
import os
import sys
import time
from urllib.parse import urlsplit

url, pid, corpora = sys.argv[1], int(sys.argv[2]), sys.argv[3]
address = urlsplit(url)
failed = 0
connection = None


def request(method, path, body, kind):
    """One request over a kept connection: status, body, milliseconds."""
    global connection
    start = time.monotonic()
    for again in (False, True):
        if connection is None:
            connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        try:
            connection.request(method, path, body, {"Content-Type": kind})
            answer = connection.getresponse()
            text = answer.read()
            break
        except (http.client.HTTPException, OSError):
            connection = None
            if again:
                raise
    if answer.getheader("Connection") == "close":
        connection = None
    return answer.status, text, (time.monotonic() - start) * 1e3


def memory(field):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field + ":"))


def computed_ms():
    """What the daemon has computed so far, in steps of 10 ms: on a busy machine the clock on the wall says little."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def say(name, asked, reached, good):
    global failed
    failed |= not good
    print(f"{name}: {asked} asked, {reached}, {'pass' if good else 'fail'}", flush=True)


def images():
    worst, slowest, most, wrong, sent = 0.0, 0.0, 0, [], 0
    files = sorted(glob.glob(corpora + "/jpeg-hostile/*")) + sorted(glob.glob(corpora + "/jpeg-valid/*"))
    for name in files:
        with open(name, "rb") as f:
            whole = f.read()
        valid = "/jpeg-valid/" in name
        cuts = range(1, len(whole), max(1, len(whole) // 100)) if valid else []
        for size in [*cuts, len(whole)]:
            with open(f"/proc/{pid}/clear_refs", "w") as f:
                f.write("5")  # the high-water mark of memory starts anew
            before = memory("VmRSS")
            computed = computed_ms()
            status, text, ms = request("POST", "/predict", whole[:size], "image/jpeg")
            worst = max(worst, computed_ms() - computed)
            most = max(most, memory("VmHWM") - before)
            slowest = max(slowest, ms)
            sent += 1
            expected = (200,) if valid and size == len(whole) else (400, 415, 422) if size < len(whole) else (200, 400, 415, 422)
            if status not in expected:
                wrong.append(f"{os.path.basename(name)}[:{size}] {status}")
    say("images over HTTP", "0 wrong, <= 250 ms, <= 64 MiB", f"{sent} sent, {len(wrong)} wrong, worst {worst:.0f} ms of CPU, {slowest:.0f} ms on the wall,"
        f" {most / 1024:.1f} MiB" + "".join(" " + w for w in wrong[:10]), not wrong and worst <= 250 and most <= 65536)


def json_texts():
    model = json.loads(request("GET", "/models", None, "text/plain")[1])
    name = next(iter(find(model, "name")), "")
    endpoints = [("POST", "/predict"), ("PUT", "/precision"), ("POST", f"/v2/models/{name}/infer")]
    for method, path in endpoints:
        if request(method, path, b"{}", "application/json")[0] == 404:
            continue
        count = {"y": [0, 0], "n": [0, 0], "i": [0, 0]}
        wrong = []
        for file in sorted(glob.glob(corpora + "/json/test_parsing/*.json")):
            with open(file, "rb") as f:
                body = f.read()
            kind = os.path.basename(file)[0]
            status, text, _ = request(method, path, body, "application/json")
            detail = json.loads(text).get("detail", "")
            # no text of the suite means anything to these endpoints, so all are refused: for their syntax, or for what they say
            syntax = "JSON line" in detail or "body is empty" in detail
            content = "character U+0000" in detail or "NUL character" in detail or "twice in one object" in detail
            deep = max(body.count(b"["), body.count(b"{")) > 64  # beyond our limit of nesting: refused before its syntax is known
            good = 400 <= status < 500 and (kind == "i" or deep or (syntax and not content) == (kind == "n"))
            count[kind][0] += good
            count[kind][1] += 1
            if not good:
                wrong.append(f"{os.path.basename(file)} {status} {detail!r}")
        y, n, i = count["y"], count["n"], count["i"]
        say(f"JSON suite to {method} {path.replace(name, 'NAME')}", "95/95 y accepted as syntax, 188/188 n refused, 0 5xx",
            f"y {y[0]}/{y[1]}, n {n[0]}/{n[1]}, i without 5xx {i[0]}/{i[1]}" + "".join("\n    " + w for w in wrong),
            not wrong and y[1] == 95 and n[1] == 188)


def find(value, key):
    if isinstance(value, dict):
        for k, v in value.items():
            if k == key and isinstance(v, str):
                yield v
            yield from find(v, key)
    elif isinstance(value, list):
        for v in value:
            yield from find(v, key)


images()
json_texts()
status = request("GET", "/readyz", None, "text/plain")[0]
say("the daemon afterwards", "ready", str(status), status == 200)
sys.exit(failed)
