# SPDX-License-Identifier: MIT
#
# openapi.py URL PHOTO CONF - asks the daemon at URL for every route and status that its /openapi.json documents and holds the
# answers against the schemas, in both directions: what must be there is, and nothing is there that is not documented. CONF is the
# daemon's configuration, which is broken and mended to see a reload fail.

import base64
import http.client
import json
import struct
import sys
import time
import urllib.parse
import zlib

import jsonschema

url, photo_path, conf_path = sys.argv[1:]
host = urllib.parse.urlsplit(url).netloc
photo = open(photo_path, "rb").read()
JSON = {"Content-Type": "application/json"}
INFER = "Inference-Header-Content-Length"
checks, failures = 0, 0


def check(what, ok, why=""):
    global checks, failures
    checks += 1
    if not ok:
        failures += 1
        print("FAIL: %s\n    %s" % (what, str(why)[:1500]))


# ---- asking


def ask(method, path, body=None, headers={}):
    c = http.client.HTTPConnection(host, timeout=120)
    c.request(method, path, body, headers)
    r = c.getresponse()
    answer = r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()
    c.close()
    return answer


def unfinished(path, headers, length):
    """The headers alone: with a length, the body never comes; without one, there is none."""
    c = http.client.HTTPConnection(host, timeout=120)
    c.putrequest("POST" if "precision" not in path else "PUT", path)
    for k, v in headers.items():
        c.putheader(k, v)
    if length is not None:
        c.putheader("Content-Length", str(length))
    c.endheaders()
    r = c.getresponse()
    answer = r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()
    c.close()
    return answer


def png(side):
    """A black image: few bytes, many pixels."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    rows = zlib.compress(bytes((1 + 3 * side) * side), 9)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) + chunk(b"IDAT", rows)
            + chunk(b"IEND", b""))


def images(photos, timeout=None, **more):
    data = b"".join(struct.pack("<I", len(p)) + p for p in photos)
    request = {"inputs": [{"name": "image", "shape": [len(photos)], "datatype": "BYTES",
                           "parameters": {"binary_data_size": len(data)}}], **more}
    if timeout:
        request["parameters"] = {"timeout": timeout}
    text = json.dumps(request).encode()
    return text + data, {INFER: str(len(text))}


def put(value):
    return json.dumps(value).encode(), JSON


large, larger = png(1200), png(4500)
b64 = base64.b64encode(photo).decode()
oip_json = json.dumps({"id": "42", "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [b64]}],
                       "outputs": [{"name": "probabilities", "parameters": {"classification": 2}}, {"name": "logits"}]}).encode()
too_much = 1024 * 1024 + 1


def broken_reload():
    text = open(conf_path).read()
    open(conf_path, "w").write("[server]\nlisten = 127.0.0.1:1\nno_such_key = 1\n")
    answer = ask("POST", "/v1/reload", b"", JSON)
    open(conf_path, "w").write(text)
    return answer


# (method, documented path) -> status -> ways to ask for it: (path, body, headers), or a function that asks
foreign = {"Origin": "http://elsewhere.example", **JSON}
simple = {200: [(None, None, {})]}
asks = {
    ("get", path): simple for path in ("/models", "/v1/status", "/livez", "/openapi.json", "/", "/v2", "/v2/", "/v2/health/live")
}
asks[("post", "/")] = {200: [(None, None, {}), (None, b"anything", {})], 413: [lambda: unfinished("/", {}, too_much)]}
asks[("get", "/metrics")] = {200: [(None, None, {}), (None, None, {"Accept": "application/openmetrics-text"})]}
asks[("get", "/readyz")] = asks[("get", "/v2/health/ready")] = {200: [(None, None, {})], 503: [(None, None, {})]}
asks[("post", "/predict")] = {
    200: [(None, photo, {}), ("/predict?top_k=2&threshold=0.1&logits=1&precision=fp32&model=m&timeout_ms=60000", photo, {}),
          (None, large, {}), (None, json.dumps({"image": {"b64": b64}}).encode(), JSON)],
    400: [("/predict?top_k=0", photo, {}), (None, b"{}", JSON)],
    404: [("/predict?model=x", photo, {})],
    408: [lambda: unfinished("/predict", {}, 10)],
    409: [("/predict?precision=hybrid", photo, {})],
    411: [lambda: unfinished("/predict", {}, None)],
    413: [lambda: unfinished("/predict", {}, too_much)],
    403: [(None, photo, {"Sec-Fetch-Site": "cross-site"})],
    415: [(None, b"no image", {})],
    422: [(None, photo[:3000], {})],
    503: [(None, larger, {})],
    504: [("/predict?timeout_ms=1", large, {})],
}
asks[("get", "/precision")] = {200: [(None, None, {}), ("/precision?model=m", None, {})], 400: [("/precision?x=1", None, {})],
                               404: [("/precision?model=x", None, {})]}
asks[("put", "/precision")] = {
    200: [(None, *put({"precision": "fp16"})), (None, *put({"precision": "int8", "model": "m"}))],
    400: [(None, *put({"precision": "fp17"}))],
    403: [(None, b'{"precision":"fp16"}', foreign)],
    404: [(None, *put({"precision": "int8", "model": "x"}))],
    411: [lambda: unfinished("/precision", JSON, None)],
    413: [lambda: unfinished("/precision", JSON, too_much)],
}
asks[("post", "/v1/reload")] = {200: [(None, b"", JSON)], 403: [(None, b"", foreign)], 409: [broken_reload]}
asks[("post", "/v1/drain")] = {200: [(None, b"", JSON)], 403: [(None, b"", foreign)]}
for base, real in (("/v2/models/{m}", "/v2/models/m"), ("/v2/models/{m}/versions/{p}", "/v2/models/m/versions/fp32")):
    none = real.replace("/m", "/x", 1) if base == "/v2/models/{m}" else "/v2/models/m/versions/1"
    absent = "/v2/models/m/versions/hybrid"
    asks[("get", base)] = {200: [(real, None, {})], 404: [(none, None, {})]}
    asks[("get", base + "/ready")] = {200: [(real + "/ready", None, {})], 404: [(none + "/ready", None, {})],
                                      503: [((real if base == "/v2/models/{m}" else absent) + "/ready", None, {})]}
    infer = real + "/infer"
    asks[("post", base + "/infer")] = {
        200: [(infer, oip_json, JSON), (infer, photo, {INFER: "0"}), (infer, *images([photo, large])),
              (infer, *images([photo], outputs=[{"name": "logits", "parameters": {"binary_data": True}}]))],
        400: [(infer, b"{}", JSON), (infer, b"[", JSON)],
        404: [(none + "/infer", oip_json, JSON)],
        408: [lambda infer=infer: unfinished(infer, {}, 10)],
        411: [lambda infer=infer: unfinished(infer, {}, None)],
        413: [lambda infer=infer: unfinished(infer, {}, too_much)],
        403: [(infer, b"{}", {"Sec-Fetch-Site": "cross-site"})],
        415: [(infer, *images([photo, b"no image"]))],
        422: [(infer, *images([photo, photo[:3000]]))],
        503: [(infer, *images([larger]))],
        504: [(infer, *images([large], timeout=1000))],
    }
    if base != "/v2/models/{m}":
        asks[("post", base + "/infer")][409] = [(absent + "/infer", oip_json, JSON)]

# not asked for, and why
impossible = {("get", "/livez", 503): "takes a stuck worker", ("get", "/v2/health/live", 503): "takes a stuck worker"}
# after the daemon was told to drain
late = {("get", "/readyz", 503), ("get", "/v2/health/ready", 503), ("get", "/v2/models/{m}/ready", 503), ("post", "/v1/drain", 200)}
# what `default` stands for
others = [("POST", "/livez", 405, None, {}), ("GET", "/nothing", 404, None, {}), ("GET", "/v2/nothing", 404, None, {}),
          ("GET", "/livez", 403, None, {"Host": "elsewhere.example"}), ("GET", "/livez", 431, None, {"X-%d" % i: "1" for i in range(120)})]

# ---- comparing

status, headers, body = ask("GET", "/openapi.json")
doc = json.loads(body)
components = {"components": doc["components"]}


def resolve(node):
    while "$ref" in node:
        target = doc
        for part in node["$ref"].lstrip("#/").split("/"):
            target = target[part]
        node = {**target, **{k: v for k, v in node.items() if k != "$ref"}}
    return node


def strangers(schema, value, where=""):
    """Members of the value that the schema does not name, although it names some."""
    schema = resolve(schema)
    for part in schema.get("allOf", []):
        yield from strangers(part, value, where)
    for key in ("oneOf", "anyOf"):
        fitting = [s for s in schema.get(key, []) if jsonschema.Draft202012Validator({**s, **components}).is_valid(value)]
        if fitting:
            yield from strangers(fitting[0], value, where)
    if isinstance(value, dict):
        named = schema.get("properties", {})
        for k, v in value.items():
            if k in named:
                yield from strangers(named[k], v, where + "/" + k)
            elif "additionalProperties" in schema:
                if isinstance(schema["additionalProperties"], dict):
                    yield from strangers(schema["additionalProperties"], v, where + "/" + k)
            elif named:
                yield where + "/" + k
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for v in value:
            yield from strangers(schema["items"], v, where + "[]")


def fits(what, schema, value):
    errors = list(jsonschema.Draft202012Validator({**schema, **components}).iter_errors(value))
    check(what + ": as the schema says", not errors, "; ".join("%s: %s" % (list(e.path), e.message) for e in errors))
    unknown = sorted(set(strangers(schema, value)))
    check(what + ": documented members only", not unknown, unknown)


def compare(what, response, headers, body):
    kind = headers.get("content-type", "").split(";")[0]
    content = response["content"].get(kind)
    check(what + ": Content-Type", content is not None, "%s, documented are %s" % (kind, list(response["content"])))
    for name in response.get("headers", {}):
        if name != INFER:
            check(what + ": header " + name, name.lower() in headers, headers)
    check(what + ": " + INFER, (INFER.lower() in headers) == (kind == "application/octet-stream"), headers)
    if content is None:
        return
    if kind == "application/octet-stream":
        size = int(headers[INFER.lower()])
        reply = json.loads(body[:size])
        fits(what, response["content"]["application/json"]["schema"], reply)
        behind = sum(o.get("parameters", {}).get("binary_data_size", 0) for o in reply["outputs"])
        check(what + ": bytes behind the JSON", behind == len(body) - size, (behind, len(body) - size))
    elif kind.endswith("json"):
        fits(what, content["schema"], json.loads(body))


def exercise(method, path, status):
    response = resolve(doc["paths"][path][method]["responses"][str(status)])
    for way in asks.get((method, path), {}).get(status, []):
        got, headers, body = way() if callable(way) else ask(method.upper(), way[0] or path, way[1], way[2])
        what = "%s %s %d" % (method.upper(), path, status)
        check(what + ": status", got == status, "%d %s" % (got, body[:500]))
        if got == status:
            compare(what, response, headers, body)
            if status >= 400:
                check(what + ": its own status", json.loads(body)["status"] == status, body)
                check(what + ": error", ("error" in json.loads(body)) == path.startswith("/v2"), body)
        if not callable(way) and way[2] == JSON and status == 200 and way[1]:
            fits(what + ", request", doc["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"], json.loads(way[1]))


# every reference leads somewhere, every name in a path is a parameter, every operation has a name of its own
def references(node):
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for v in node.values():
            yield from references(v)
    elif isinstance(node, list):
        for v in node:
            yield from references(v)


for r in set(references(doc)):
    try:
        resolve({"$ref": r})
    except KeyError:
        check("reference " + r, False, "leads nowhere")
for name, schema in doc["components"]["schemas"].items():
    jsonschema.Draft202012Validator.check_schema(schema)
operations = [(m, p, o) for p, item in doc["paths"].items() for m, o in item.items() if m != "parameters"]
check("operationId", len({o["operationId"] for _, _, o in operations}) == len(operations))
for p, item in doc["paths"].items():
    declared = {resolve(x)["name"] for x in item.get("parameters", [])}
    check("parameters of " + p, declared == {x[1:-1] for x in p.split("/") if x.startswith("{")}, declared)

# the routes are those that the daemon has
listed = {(r["method"].lower(), r["path"]) for r in json.loads(ask("GET", "/")[2])["routes"]}
check("routes", listed == {(m, p) for m, p, _ in operations}, listed ^ {(m, p) for m, p, _ in operations})

after = []
for m, p, o in operations:
    for s in o["responses"]:
        if s == "default" or (m, p, int(s)) in impossible:
            continue
        check("%s %s %s" % (m, p, s), asks.get((m, p), {}).get(int(s)), "is documented, but this test does not know how to get it")
        if (m, p, int(s)) in late:
            after.append((m, p, int(s)))
        else:
            exercise(m, p, int(s))
problem = resolve(doc["components"]["responses"]["Problem"])
for method, path, status, body, more in others:
    got, headers, answer = ask(method, path, body, more)
    check("%s %s %d: status" % (method, path, status), got == status, "%d %s" % (got, answer[:500]))
    compare("%s %s %d" % (method, path, status), problem, headers, answer)
for m, p, s in sorted(after, key=lambda x: x[2]):  # draining is the 200
    exercise(m, p, s)
    for _ in range(100):
        if ask("GET", "/readyz")[0] == 503:
            break
        time.sleep(0.1)

print("openapi.py: %d checks, %d failed" % (checks, failures))
sys.exit(failures != 0)
