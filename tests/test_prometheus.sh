#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_prometheus.sh - /metrics as those who read it see it: promtool, an OpenMetrics parser, a real Prometheus; the same series
# whatever clients send; exemplars and log lines that name the trace; a board's sensors; the rules and alerts of etc/prometheus.
# What is not installed is skipped. tests/proof/metrics.sh sends more.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"

rules=$srcdir/etc/prometheus
photo=$srcdir/tests/data/ship.jpg
python=${PYTHON:-/usr/bin/python3}
openmetrics='Accept: application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=underscores;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2'
trace=4bf92f3577b34da6a3ce929d0e0e4736

# ---- rules

if command -v promtool >/dev/null; then
    equal "promtool check rules: status" 0 "$(promtool check rules "$rules/resnetd.rules.yml" "$rules/resnetd.alerts.yml" >"$tmp/out" 2>&1; echo $?)"
    equal "promtool check config: status" 0 "$(promtool check config "$rules/prometheus.yml" >"$tmp/out" 2>&1; echo $?)"
    tested=$(cd "$rules" && promtool test rules resnetd.test.yml 2>&1)
    equal "promtool test rules: status" 0 $?
    match "promtool test rules" SUCCESS "$tested"
    for alert in $(sed -n 's/.*- alert: //p' "$rules/resnetd.alerts.yml"); do
        match "the alert $alert has a test in which it fires" "alertname: $alert" "$(grep -B 1 -A 1 exp_alerts "$rules/resnetd.test.yml")"
    done
else
    echo "SKIP: rules: promtool (package prometheus) is not here"
fi

# ---- a board, and requests

mkdir -p "$tmp/sys/class/thermal/thermal_zone0" "$tmp/sys/class/hwmon/hwmon1" "$tmp/sys/devices/system/cpu/cpu0/cpufreq" "$tmp/sys/devices/system/cpu/cpu1/cpufreq"
echo cpu-thermal >"$tmp/sys/class/thermal/thermal_zone0/type"
echo 48312 >"$tmp/sys/class/thermal/thermal_zone0/temp"
echo rpi_volt >"$tmp/sys/class/hwmon/hwmon1/name"
echo 0 >"$tmp/sys/class/hwmon/hwmon1/in0_lcrit_alarm"
echo 0-1 >"$tmp/sys/devices/system/cpu/present"
echo 1500000 | tee "$tmp/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq" >"$tmp/sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq"
start_daemon --model "$bundled" -o "metrics.sysfs=$tmp/sys" -o log.access=yes -o log.format=json

# series: "name{labels} value" lines of $body
series()
{
    printf '%s\n' "$body" | grep -v '^#'
}
expect "the first scrape" 200 /metrics
series >"$tmp/before"
names=$(sed 's/ [^ ]*$//' "$tmp/before" | sort)
match "sensors: temperature" '^resnetd_soc_temperature_celsius 48\.312$' "$body"
match "sensors: clocks" '^resnetd_cpu_frequency_hertz\{cpu="1"\} 1500000000$' "$body"
match "sensors: throttled" '^resnetd_throttled 0$' "$body"
for name in cpu_seconds_total open_fds max_fds virtual_memory_bytes virtual_memory_max_bytes resident_memory_bytes heap_bytes start_time_seconds threads; do
    [ -r /proc/self/status ] || break
    match "process_$name" "^process_$name [0-9]" "$body"
done
for want in 'resnetd_stage_duration_seconds_count\{model="resnet20-cifar10",precision="fp32",stage="queue"\} 0' \
    'resnetd_inferences_total\{model="resnet20-cifar10",precision="int8"\} 0' 'resnetd_requests_rejected_total\{reason="queue_full"\} 0' \
    'resnetd_http_requests_total\{route="/predict",method="POST",code="504"\} 0' 'resnetd_batch_size_count 0' \
    'resnetd_precision_switches_total\{model="resnet20-cifar10",from="int8",to="fp16"\} 0' 'resnetd_config_reloads_total\{outcome="failed"\} 0' \
    'resnetd_stage_duration_seconds_bucket\{.*le="1\.0"\} 0'; do
    match "there from the start" "^$want$" "$body"
done

expect "a prediction with a trace" 200 /predict --data-binary "@$photo" -H "traceparent: 00-$trace-00f067aa0ba902b7-01" -H 'X-Request-Id: kitchen-42'
expect "one whose trace is wrong" 200 /predict --data-binary "@$photo" -H "traceparent: 00-$trace-00f067aa0ba902b7" -H 'X-Request-Id: kitchen-43'
expect "one with two traces" 200 /predict --data-binary "@$photo" -H "traceparent: 00-$trace-00f067aa0ba902b7-01" \
    -H "traceparent: 00-$trace-00f067aa0ba902b8-01" -H 'X-Request-Id: kitchen-44'
json='Content-Type: application/json'
for method in GET HEAD POST PUT DELETE OPTIONS PATCH BREW; do
    for path in / /predict /precision /metrics /models /v1/status /v1/nothing '/predict?top_k=x' /v2/models/x/ready /%00 '/"{le="'; do
        head=--include
        [ $method = HEAD ] && head=--head
        curl -s -m 10 -o /dev/null $head -X $method -H 'User-Agent: a"b\n{}' -g "$url$path" -d x
    done
done
expect "a switch" 200 /precision -X PUT -H "$json" -d '{"precision":"fp32"}'
expect "another" 200 /precision -X PUT -H "$json" -d '{"precision":"int8"}'
echo 1 >"$tmp/sys/class/hwmon/hwmon1/in0_lcrit_alarm"
expect "a scrape after all that" 200 /metrics
series >"$tmp/after"
equal "the series are those of the start" "$names" "$(sed 's/ [^ ]*$//' "$tmp/after" | sort)"
equal "none twice" "" "$(sed 's/ [^ ]*$//' "$tmp/after" | sort | uniq -d)"
fallen=$(cat "$tmp/before" - "$tmp/after" <<END | awk '/^--$/ { after = 1; next } { v = $NF; sub(/ [^ ]*$/, "") } !after { was[$0] = v; next }
    /_(total|bucket|count|sum)(\{| |$)/ && v + 0 < was[$0] + 0'
--
END
)
equal "counters that fell" "" "$fallen"
match "sensors: read at each scrape" '^resnetd_throttled 1$' "$body"
cp "$tmp/body" "$tmp/text"

# ---- the log

match "log: a line with everything that was asked for" '^(<6>)?\{"ts":"[0-9T:.-]+Z","level":"info","msg":"POST /predict 200 [0-9.]+ ms","request_id":"kitchen-42","trace_id":"'$trace'","parent_id":"00f067aa0ba902b7","route":"/predict","method":"POST","status":200,"duration_ms":[0-9.]+,"model":"resnet20-cifar10","precision":"int8","queue_ms":[0-9.]+,"decode_ms":[0-9.]+,"preprocess_ms":[0-9.]+,"inference_ms":[0-9.]+\}$' "$(cat "$tmp/log")"
no_match "log: a wrong trace is none" 'kitchen-43.*trace_id' "$(cat "$tmp/log")"
no_match "log: two traces are none" 'kitchen-44.*trace_id' "$(cat "$tmp/log")"
if "$python" -c '' 2>/dev/null; then
    equal "log: every line is JSON with ts, level and msg" "" "$("$python" -c '
import json, sys
for line in open(sys.argv[1]):
    o = json.loads(line)
    if not {"ts", "level", "msg"} <= o.keys():
        print(line)' "$tmp/log" 2>&1)"
fi

# ---- OpenMetrics

expect "a scrape as Prometheus 3 asks" 200 /metrics -H "$openmetrics"
match "its type" '^[Cc]ontent-[Tt]ype: application/openmetrics-text; version=1\.0\.0; charset=utf-8$' "$headers"
equal "its end" '# EOF' "$(printf '%s\n' "$body" | tail -n 1)"
match "an exemplar with the trace" '^resnetd_stage_duration_seconds_bucket\{.*stage="inference",le="[0-9.]+"\} [0-9]+ # \{(trace_id="'$trace'"|request_id="kitchen-4[34]")\} [0-9.e-]+ [0-9]+\.[0-9]+$' "$body"
match "an exemplar of a request" '^resnetd_http_request_duration_seconds_bucket\{route="/predict",le="[^"]*"\} [0-9]+ # \{request_id="' "$body"
match "a family of counters without _total" '^# TYPE resnetd_http_requests counter$' "$body"
match "units" '^# UNIT resnetd_soc_temperature_celsius celsius$' "$body"
if "$python" -c 'import prometheus_client.openmetrics.parser' 2>/dev/null; then
    equal "an OpenMetrics parser reads it" "" "$("$python" -c '
import sys
from prometheus_client.openmetrics.parser import text_fd_to_metric_families as parse
families = list(parse(open(sys.argv[1])))
samples = sum(len(f.samples) for f in families)
exemplars = sum(1 for f in families for s in f.samples if s.exemplar)
if len(families) < 30 or samples < 500 or exemplars < 5:
    print(len(families), samples, exemplars)' "$tmp/body" 2>&1)"
else
    echo "SKIP: an OpenMetrics parser: python3-prometheus-client is not here"
fi
if command -v promtool >/dev/null; then
    equal "promtool check metrics finds nothing" "" "$(promtool check metrics <"$tmp/text" 2>&1)"
else
    echo "SKIP: promtool check metrics: promtool (package prometheus) is not here"
fi

# ---- a real Prometheus

# ask PATH-AND-QUERY: of Prometheus
ask()
{
    curl -s -m 5 -g "http://127.0.0.1:$prometheus_port/api/v1/$1"
}
has()
{
    ask "$1" | grep -q "$2"
}
if [ -z "$EMULATOR" ] && command -v prometheus >/dev/null; then
    prometheus_port=$((port + 1 > 32000 ? port - 1 : port + 1))
    cat >"$tmp/prometheus.yml" <<END
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: ["$rules/resnetd.rules.yml", "$rules/resnetd.alerts.yml"]
scrape_configs: [{job_name: resnetd, static_configs: [{targets: ["127.0.0.1:$port"]}]}]
END
    timeout 120 prometheus --config.file="$tmp/prometheus.yml" --storage.tsdb.path="$tmp/tsdb" --web.listen-address="127.0.0.1:$prometheus_port" \
        --enable-feature=exemplar-storage --log.level=warn >"$tmp/prometheus.log" 2>&1 &
    prometheus_pid=$!
    wait_for 60 has 'query?query=up' '"1"\]' || fail "Prometheus scrapes resnetd" "up 1" "$(ask 'query?query=up') $(tail -n 3 "$tmp/prometheus.log")"
    expect "a prediction while it scrapes" 200 /predict --data-binary "@$photo" -H "traceparent: 00-$trace-00f067aa0ba902b7-01"
    checks=$((checks + 3))
    wait_for 30 has 'query?query=resnetd_inferences_total{precision="int8"}' '"4"\]' ||
        fail "Prometheus knows how many images were computed" 4 "$(ask 'query?query=resnetd_inferences_total')"
    wait_for 30 has "query_exemplars?query=resnetd_stage_duration_seconds_bucket&start=$(($(date +%s) - 600))&end=$(($(date +%s) + 600))" "$trace" ||
        fail "Prometheus has the trace" "$trace" "$(ask "query_exemplars?query=resnetd_stage_duration_seconds_bucket&start=$(($(date +%s) - 600))&end=$(($(date +%s) + 600))" | head -c 500)"
    wait_for 30 has 'query?query=instance:resnetd_queue:ratio' '"value"' || fail "Prometheus follows the rules" "a value" "$(ask 'query?query=instance:resnetd_queue:ratio')"
    equal "what Prometheus complains about" "" "$(grep -v 'level=info' "$tmp/prometheus.log")"
    kill $prometheus_pid
    wait $prometheus_pid 2>/dev/null
else
    echo "SKIP: a real Prometheus: the package prometheus is not here, or the daemon runs in an emulator"
fi
stop_daemon
equal "the daemon ends well" 0 "$exit_status"
finish
