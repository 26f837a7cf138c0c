#!/bin/sh
# SPDX-License-Identifier: MIT
#
# tritonclient.sh - the Open Inference Protocol with a client of others: NVIDIA's tritonclient (its HTTP part), which is not in Debian.
# PYTHON and PYTHONPATH say where it is; it needs numpy, gevent, geventhttpclient and rapidjson.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"

python=${PYTHON:-/usr/bin/python3}
$python -c 'import tritonclient.http, numpy' 2>"$tmp/why" || {
    echo "SKIP: tritonclient: $(tail -n 1 "$tmp/why")"
    exit 77
}
printf '[model.m]\npath = %s\nprecision = int8\nkeep = fp32\n' "$bundled" >"$tmp/conf"
start_daemon -c "$tmp/conf"
cat >"$tmp/client.py" <<'EOP'
import base64, json, struct, sys, urllib.request, zlib
import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

address, data = sys.argv[1:]
client = http.InferenceServerClient(address)
checks = []

def check(what, ok):
    checks.append(bool(ok))
    if not ok:
        print("FAIL:", what)

def refused(what, status, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
        check(what + " is refused", False)
    except InferenceServerException as e:
        check("%s: %s %s" % (what, e.status(), e.message()), e.status() == str(status) and " " in e.message() and "exception" not in e.message())

photos = [open("%s/%s.jpg" % (data, name), "rb").read() for name in ("ship", "truck", "airplane")]
def logits_of(photo, precision):
    with urllib.request.urlopen("http://%s/predict?logits=1&precision=%s" % (address, precision), photo) as f:
        return np.array(json.load(f)["logits"], np.float32)

check("live", client.is_server_live())
check("ready", client.is_server_ready())
check("model ready", client.is_model_ready("m") and client.is_model_ready("m", "fp32"))
check("not ready", not client.is_model_ready("m", "hybrid") and not client.is_model_ready("x"))
server = client.get_server_metadata()
check("server metadata", server["name"] == "resnetd" and "binary_tensor_data" in server["extensions"])
model = client.get_model_metadata("m", "int8")
check("model metadata", model["name"] == "m" and model["versions"] == ["fp32", "int8"] and model["inputs"][1]["shape"] == [-1, 3, 32, 32])

def image(photos, binary):
    i = http.InferInput("image", [len(photos)], "BYTES")
    i.set_data_from_numpy(np.array(photos, dtype=np.object_), binary_data=binary)
    return i

for version in ("int8", "fp32"):
    wanted = np.stack([logits_of(p, version) for p in photos])
    for binary_in in (True, False):
        for binary_out in (True, False):
            encoded = photos if binary_in else [base64.b64encode(p).decode() for p in photos]
            result = client.infer("m", [image(encoded, binary_in)], version, request_id="7",
                                  outputs=[http.InferRequestedOutput("logits", binary_data=binary_out),
                                           http.InferRequestedOutput("probabilities", binary_data=binary_out, class_count=2)])
            response = result.get_response()
            what = "%s, binary in %d, out %d" % (version, binary_in, binary_out)
            check(what + ": names", response["model_name"] == "m" and response["model_version"] == version and response["id"] == "7")
            check(what + ": logits", np.array_equal(result.as_numpy("logits"), wanted))
            classes = result.as_numpy("probabilities")
            first = [c if isinstance(c, str) else c.decode() for c in classes[:, 0]]
            check(what + ": classes", classes.shape == (3, 2) and [c.split(":")[2] for c in first] == ["ship", "truck", "airplane"])

result = client.infer("m", [image(photos[:1], True)])
check("all outputs, binary", result.as_numpy("logits").shape == (1, 10) and abs(result.as_numpy("probabilities").sum() - 1) < 1e-5)

tensor = np.random.default_rng(1).standard_normal((4, 3, 32, 32)).astype(np.float32)
results = []
for binary in (True, False):
    i = http.InferInput("tensor", tensor.shape, "FP32")
    i.set_data_from_numpy(tensor, binary_data=binary)
    results.append(client.infer("m", [i], "fp32", timeout=5000000, priority=1, parameters={"mine": "x"}).as_numpy("logits"))
check("tensors: JSON and binary agree", np.array_equal(*results) and results[0].shape == (4, 10))
# an image that needs no resizing, and the tensor that the metadata say it is
rgb = np.random.default_rng(2).integers(0, 256, (32, 32, 3), np.uint8)
def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
png = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0)) +
       chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rgb))) + chunk(b"IEND", b""))
texts = model["properties"]
mean, std = (np.array([float(x) for x in texts["preprocessing." + k].split(",")], np.float32) for k in ("mean", "std"))
pixels = (rgb.astype(np.float32) / np.float32(texts["preprocessing.scale"]) - mean) / std
tensor = http.InferInput("tensor", [1, 3, 32, 32], "FP32")
tensor.set_data_from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)[np.newaxis]))
for version in ("int8", "fp32"):
    a, b = (client.infer("m", [i], version).as_numpy("logits") for i in (image([png], True), tensor))
    check(version + ": an image and its tensor give the same bits", np.array_equal(a, b))
pending = [client.async_infer("m", [image(photos, True)]) for _ in range(8)]
check("asynchronous", all(p.get_result().as_numpy("logits").shape == (3, 10) for p in pending))
refused("a model that there is not", 404, client.infer, "x", [image(photos, True)])
refused("a version that is not in memory", 409, client.infer, "m", [image(photos, True)], "hybrid")
refused("metadata of no model", 404, client.get_model_metadata, "x")
refused("a damaged image", 422, client.infer, "m", [image([photos[0], photos[1][:3000]], True)])
refused("no such output", 400, client.infer, "m", [image(photos, True)], outputs=[http.InferRequestedOutput("output0")])
refused("a deadline that cannot be kept", 504, client.infer, "m", [image(photos * 10, True)], timeout=1000)
print("tritonclient: 0 failed checks asked, %d of %d reached, %s" % (checks.count(False), len(checks), "pass" if all(checks) else "fail"))
sys.exit(not all(checks))
EOP
$python "$tmp/client.py" "127.0.0.1:$port" "$srcdir/tests/data" >"$tmp/out" 2>&1
equal "tritonclient: exit status" 0 $?
cat "$tmp/out"
stop_daemon
equal "SIGTERM: exit status" 0 "$exit_status"
finish
