#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_top.sh - resnetctl as the operator's tool: top on a terminal, in a pipe and for machines; and the other commands that talk to a
# daemon, over its unix socket, with --json, and their exit statuses.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"

photo=$srcdir/tests/data/ship.jpg
mkdir -p "$tmp/sys/class/thermal/thermal_zone0" "$tmp/sys/devices/system/cpu/cpu0/cpufreq"
echo cpu-thermal >"$tmp/sys/class/thermal/thermal_zone0/type"
echo 48312 >"$tmp/sys/class/thermal/thermal_zone0/temp"
echo 0 >"$tmp/sys/devices/system/cpu/present"
echo 1500000 >"$tmp/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
printf '[metrics]\nsysfs = %s\n[inference]\nmemory_limit = 64M\n[model.m]\npath = %s\nprecision = int8\nkeep = fp16\n' "$tmp/sys" "$bundled" >"$tmp/conf"
start_daemon -c "$tmp/conf" --listen "unix:$tmp/socket"

# load: predictions in the background until it is stopped
load()
{
    while [ ! -e "$tmp/enough" ]; do
        curl -s -m $patience -o /dev/null --data-binary "@$photo" "$url/predict"
    done
}
load &
load_pid=$!

# ---- once

resnetctl top --url "$url" --once --interval 2 >"$tmp/out" 2>"$tmp/err"
equal "top --once: exit status" 0 $?
out=$(cat "$tmp/out")
match "top: who" "^resnetd [0-9.]+ at $url   up 0:0[0-9]:[0-9]{2}   kernels [a-z0-9_]+$" "$out"
match "top: rates" '^requests   [0-9.]*[1-9][0-9.]* /s   images [0-9.]*[1-9][0-9.]* /s   refused 0\.0 /s   in flight [0-9]+   connections [0-9]+$' "$out"
match "top: queue" '^queue      \[[#.]{20}\] [0-9]+ of 32$' "$out"
match "top: memory" '^memory     \[#+\.+\] [0-9.]+ [kM]B of 67\.1 MB admitted, ([0-9.]+ MB|-) resident$' "$out"
match "top: machine" '^machine    cpu [0-9]+ %   48\.3 C   1\.50 GHz$' "$out"
for stage in queue decode preprocess inference /predict; do
    match "top: $stage" "^$stage +[0-9.]*[1-9][0-9.]* +[0-9.]+ +[0-9.]+$" "$out"
done
match "top: the model" '^m +int8 +[0-9.]+ +[0-9.]+ [kM]B  fp16$' "$out"
no_match "top: nothing for a terminal in a pipe" "$(printf '\033')" "$out"

resnetctl top --url "unix:$tmp/socket" --once --json >"$tmp/out" 2>"$tmp/err"
equal "top --json over the unix socket: exit status" 0 $?
body=$(cat "$tmp/out")
equal "top --json: one line" 1 "$(wc -l <"$tmp/out" | tr -d ' ')"
for name in version kernels uptime_s interval_s requests_per_second images_per_second refused_per_second in_flight connections depth \
    capacity resident_bytes admitted_bytes limit_bytes cpu_percent temperature_celsius throttled frequency_hertz stages per_second p50_ms \
    p99_ms models name precision also_in_memory weights_bytes; do
    match "top --json: $name" "\"$name\":" "$body"
done
equal "top --json: temperature" 48.312 "$(field temperature_celsius)"
equal "top --json: what the kernel does not tell" null "$(field throttled)"
resnetctl top --url "$url" --json >"$tmp/lines" 2>"$tmp/err" &
top_pid=$!
two_lines()
{
    [ "$(wc -l <"$tmp/lines")" -ge 2 ]
}
checks=$((checks + 1))
wait_for $patience two_lines || fail "top --json: a line for each interval" "2 lines" "$(cat "$tmp/lines" "$tmp/err")"
kill $top_pid
wait $top_pid 2>/dev/null

# ---- on a terminal: script(1) makes one of 12 lines and 60 columns

screen=$(printf '\033[?1049h')
back=$(printf '\033[?25h\033[?1049l')
if script -qec true /dev/null >/dev/null 2>&1; then
    # on_terminal SECONDS COMMAND: q is pressed after so many; leaves what was shown in $tmp/shown and the settings afterwards in $tmp/stty
    on_terminal()
    {
        (sleep "$1"; printf q; sleep 2) |
            timeout 120 script -qec "stty rows 12 cols 60; stty -g >$tmp/stty.before; $2; echo \$? >$tmp/status; stty -g >$tmp/stty" /dev/null >"$tmp/shown" 2>&1
    }
    if [ -n "$EMULATOR" ]; then seconds=20; else seconds=4; fi
    on_terminal $seconds "$EMULATOR $builddir/resnetctl top --url $url"
    equal "top: q ends it" 0 "$(cat "$tmp/status")"
    equal "top: the terminal is as it was" "$(cat "$tmp/stty.before")" "$(cat "$tmp/stty")"
    shown=$(tr -d '\r' <"$tmp/shown")
    match "top: takes another screen" "^$(printf '%s' "$screen" | sed 's/[[?]/\\&/g')" "$shown"
    equal "top: gives it back" "$back" "$(printf '%s' "$shown" | tail -c ${#back})"
    checks=$((checks + 2))
    pages=$(grep -c 'resnetd [0-9.]* at' "$tmp/shown")
    [ "$pages" -ge 2 ] || fail "top: renews itself" "2 pages or more" "$pages"
    widest=$(printf '%s\n' "$shown" | sed "s/$(printf '\033')\[[?0-9]*[A-Za-z]//g" | awk '{ if (length > w) w = length } END { print w }')
    [ "$widest" -le 120 ] || fail "top: no line wider than the window" "60, or two of them where pages meet" "$widest"
    lines=$(printf '%s\n' "$shown" | awk -v esc="$(printf '\033')" '{ n++ } index($0, esc "[J") { if (n > most) most = n; n = 1 } END { print most }')
    equal "top: as many lines as the window has" 12 "$lines"
else
    echo "SKIP: a terminal: script(1) is not here, or finds none"
fi
touch "$tmp/enough"
wait $load_pid

# ---- the other commands, over the unix socket

ctl="--url unix:$tmp/socket"
# does WHAT STATUS COMMAND...: its output goes to $body
does()
{
    does_what=$1 does_status=$2
    shift 2
    # shellcheck disable=SC2086
    resnetctl "$@" $ctl >"$tmp/out" 2>"$tmp/err"
    equal "$does_what: exit status" "$does_status" $?
    body=$(cat "$tmp/out")
}
does "status" 0 status
match "status: for people" '^queue' "$body"
does "status --json" 0 status --json
equal "status --json: not draining" false "$(field draining)"
does "predict" 0 predict "$photo"
match "predict: for people" '%  +8  ship$' "$body"
does "predict --json" 0 predict --json --top-k 1 --precision fp16 --model m "$photo"
equal "predict --json: precision" fp16 "$(field precision)"
does "predict, one file missing" 1 predict "$tmp/none.jpg" "$photo"
match "predict, one file missing: the other is classified" 'ship' "$body"
match "predict, one file missing: which" 'none\.jpg' "$(cat "$tmp/err")"
does "predict in a precision that is not in memory" 1 predict --precision fp32 "$photo"
match "predict in a precision that is not in memory: why" 'installed but not in memory.*status 409' "$(cat "$tmp/err")"
does "predict without an image" 2 predict
does "precision" 0 precision
does "precision fp16 --json" 0 precision fp16 --json
equal "precision fp16 --json: active" fp16 "$(field active)"
does "precision fp17" 2 precision fp17
does "reload --json" 0 reload --json
printf 'nonsense\n' >"$tmp/conf"
does "reload of a broken configuration" 1 reload
match "reload of a broken configuration: file and line" 'conf:1:.*the old configuration goes on' "$(cat "$tmp/err")"

# ---- tokens, addresses

printf 'correct-horse-battery-staple\n' >"$tmp/token"
ctl="--url $url"
does "reload from the loopback" 1 reload
does "a token file that is not there" 1 reload --token-file "$tmp/no-token"
match "a token file that is not there: which" 'no-token' "$(cat "$tmp/err")"
ctl=
does "no daemon's address" 2 top --url ftp://x --once
match "no daemon's address: what it may be" 'https://HOST:PORT or unix:/PATH' "$(cat "$tmp/err")"
does "top where nobody listens" 1 top --url "unix:$tmp/nobody" --once
match "top where nobody listens: is it running" 'is resnetd running there' "$(cat "$tmp/err")"
does "an interval of nothing" 2 top --interval 0

# ---- something else than a daemon

does "drain" 0 drain --url "unix:$tmp/socket"
wait "$daemon_pid"
equal "drained: exit status of the daemon" 0 $?
daemon_pid=
does "status after drain" 1 status --url "$url"
finish
