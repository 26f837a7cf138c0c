#!/bin/sh
# SPDX-License-Identifier: MIT
#
# nspawn_inside.sh - run by nspawn.sh as a service of the container: one line per question, "nspawn: WHAT: asked, reached, pass|fail".

url=http://127.0.0.1:8080
photo=/proof/ship.jpg
conf=/usr/local/etc/resnetd.conf
json='Content-Type: application/json'
mkdir -p /etc/systemd/system/resnetd.service.d

# verdict WHAT ASKED REACHED: the words are the same
verdict()
{
    if [ "$2" = "$3" ]; then v=pass; else v=fail; fi
    echo "nspawn: $1: $2 asked, $3 reached, $v"
}

# most WHAT LIMIT REACHED [UNIT]: a number not above the limit
most()
{
    if awk -v a="$3" -v b="$2" 'BEGIN { exit !(a != "" && a <= b) }'; then v=pass; else v=fail; fi
    echo "nspawn: $1: at most $2${4:+ $4} asked, ${3:-nothing} reached, $v"
}

property()
{
    systemctl show -P "$1" "${2:-resnetd.service}"
}

# The lines that come in as words, or the first argument when there are none.
words_or()
{
    w=$(sort -u | tr '\n' ' ' | sed 's/ $//')
    echo "${w:-$1}"
}

status()
{
    curl -s -m 20 -o /dev/null -w '%{http_code}' "$@"
}

predict()
{
    status --data-binary @$photo $url/predict
}

now()
{
    cut -d ' ' -f 1 /proc/uptime
}

since()
{
    awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.2f", b - a }'
}

# until_is SECONDS EXPECTED COMMAND...: polls; the time it took, or nothing
until_is()
{
    begin=$(now) limit=$1 expected=$2
    shift 2
    while [ "$("$@")" != "$expected" ]; do
        [ "$(since "$begin" | cut -d . -f 1)" -lt "$limit" ] || return
        sleep 0.02
    done
    since "$begin"
}

# another SECONDS PID: until the daemon runs as another process and is ready
another()
{
    begin=$(now)
    while [ "$(since "$begin" | cut -d . -f 1)" -lt "$1" ]; do
        pid=$(property MainPID)
        [ "$pid" != "$2" ] && [ "$pid" != 0 ] && [ "$(status $url/readyz)" = 200 ] && {
            since "$begin"
            return
        }
        sleep 0.02
    done
}

drop_in()
{
    printf '%s\n' "$@" >/etc/systemd/system/resnetd.service.d/proof.conf
    systemctl daemon-reload
    systemctl reset-failed resnetd.service 2>/dev/null
}

# ---- the units, as installed

verdict "systemd-analyze verify" silent "$(o=$(systemd-analyze verify --man=no resnetd.service resnetd.socket 2>&1); echo "${o:-silent}")"
systemd-analyze security --no-pager resnetd.service | sed -n 's/.*Overall exposure level for resnetd.service: \([0-9.]*\).*/\1/p' >/proof/exposure
most "exposure" 1.1 "$(cat /proof/exposure)"

# ---- start and notify

verdict "start returns when it is ready (Type=notify)" "active 200" "$(systemctl start resnetd.service; echo "$(property ActiveState) $(status $url/readyz)")"
verdict "a prediction from inside" 200 "$(predict)"
verdict "all CPUs are seen" "$(nproc)" "$(journalctl -u resnetd -o cat | sed -n 's/.* workers of \([0-9]*\) threads.*/\1/p' | tail -n 1)"
sleep 6
verdict "STATUS= says how it is" "serving, 0 waiting, 0 in flight" "$(property StatusText)"
verdict "a credential that is not there does not matter" 403 "$(status -X POST -H "$json" -H 'Via: 1.1 x' -H 'Authorization: Bearer correct-horse-battery' $url/v1/reload)"

# ---- the sandbox, seen from the process

pid=$(property MainPID)
field()
{
    sed -n "s/^$1:[[:space:]]*//p" "/proc/$pid/status"
}
verdict "no new privileges, seccomp filter" "1 2" "$(field NoNewPrivs) $(field Seccomp)"
verdict "capabilities: effective, permitted, bounding, ambient" "$(printf '0000000000000000 %.0s' 1 2 3 4)" \
    "$(for c in CapEff CapPrm CapBnd CapAmb; do printf '%s ' "$(field $c)"; done)"
verdict "a user of its own, not root" "not root" "$([ "$(stat -c %u /proc/"$pid")" -ge 61184 ] && echo 'not root' || stat -c %u /proc/"$pid")"
for kind in mnt user; do
    verdict "a namespace of its own: $kind" own "$([ "$(readlink "/proc/$pid/ns/$kind")" != "$(readlink "/proc/1/ns/$kind")" ] && echo own || echo shared)"
done
verdict "the whole tree is read-only" "ro" "$(awk '$5 == "/" { split($6, o, ","); print o[1] }' "/proc/$pid/mountinfo" | tail -n 1)"
verdict "writable mounts are its own" "none else" "$(awk '$6 ~ /^rw/ && $5 !~ /^\/(tmp|var\/tmp|run\/resnetd|dev|proc|sys|run\/credentials|run)/ { print $5 }' \
    "/proc/$pid/mountinfo" | words_or 'none else')"
verdict "devices" "null and its like" "$(find "/proc/$pid/root/dev" -xdev \( -type c -o -type b \) -printf '%f\n' | grep -vxE 'null|zero|full|random|urandom|tty|ptmx' | words_or 'null and its like')"
verdict "its /proc" "hidepid=invisible subset=pid" "$(awk '$5 == "/proc"' "/proc/$pid/mountinfo" | tail -n 1 | grep -oE 'hidepid=[a-z0-9]+|subset=[a-z]+' | words_or shown)"
verdict "OOM score" 200 "$(cat "/proc/$pid/oom_score_adj")"
verdict "limits: core, locked memory, files" "0 0 4096" "$(awk '/^Max core/ { c = $5 } /^Max locked/ { m = $5 } /^Max open/ { f = $5 } END { print c, m, f }' "/proc/$pid/limits")"
sed -n 's/^\([A-Z][A-Za-z]*\)=yes$/\1/p' /usr/local/lib/systemd/system/resnetd.service | grep -vE '^(Dynamic)' >/proof/switches
verdict "switches of the unit in force" all "$(while read -r d; do [ "$(property "$d")" = yes ] || echo "$d"; done </proof/switches | words_or all)"

# ---- reload

printf '[log]\naccess = yes\n[server]\nlisten = 127.0.0.1:8080\n' >$conf
verdict "reload" "active 200" "$(systemctl reload resnetd.service; sleep 0.5; echo "$(property ActiveState) $(predict)")"
verdict "what was reloaded is in effect" 1 "$(journalctl -u resnetd -o cat | grep -c 'POST /predict 200.*request_id=.*precision=')"
verdict "still the same process" "$pid" "$(property MainPID)"
printf '[server]\nlissen = 1\n' >$conf
verdict "reload of a broken configuration: goes on" "active 200" "$(systemctl reload resnetd.service; sleep 0.5; echo "$(property ActiveState) $(predict)")"
verdict "and says why" 1 "$(journalctl -u resnetd -o cat | grep -c "reload failed.*resnetd.conf:2: unknown key 'lissen'")"

# ---- a broken configuration at start is not tried again

restarts=$(property NRestarts)
systemctl stop resnetd.service
verdict "stopped cleanly" "inactive success 0" "$(property ActiveState) $(property Result) $(property ExecMainStatus)"
systemctl start resnetd.service 2>/dev/null
sleep 1
verdict "start with a broken configuration" "failed 78, $restarts restarts" "$(property ActiveState) $(property ExecMainStatus), $(property NRestarts) restarts"
rm $conf

# ---- kill -9

drop_in '[Service]'
systemctl start resnetd.service
for i in 1 2 3 4 5 6 7 8; do
    pid=$(property MainPID)
    kill -KILL "$pid"
    took=$(another 10 "$pid")
    [ "$(predict)" = 200 ] && echo "${took:-99}" || echo 99
done | sort -n >/proof/killed
most "kill -9, ready again: median of 8 (worst $(tail -n 1 /proof/killed) s)" 1 "$(sed -n 4p /proof/killed)" s

# ---- and too often

for i in 1 2 3 4 5 6 7 8; do
    pid=$(property MainPID)
    [ "$pid" = 0 ] && break
    kill -KILL "$pid"
    another 3 "$pid" >/dev/null
done
sleep 1
verdict "a daemon that cannot stay up" "failed, 1 time" \
    "$(property ActiveState), $(journalctl -u resnetd -o cat | grep -c 'Start request repeated too quickly') time"

# ---- hangs: a worker, and the main loop

drop_in '[Service]' 'WatchdogSec=3' 'Environment=LD_PRELOAD=/proof/stuck_decoder.so' 'ExecStart=' \
    'ExecStart=/usr/local/sbin/resnetd -o server.request_timeout=60s -o inference.stall_timeout=1s'
systemctl start resnetd.service
pid=$(property MainPID)
curl -s -m 30 -o /dev/null --data-binary @/proof/stuck.jpg $url/predict &
sleep 0.5
begin=$(now)
verdict "a stuck worker: connections are still accepted" 200 "$(status $url/livez)"
verdict "a stuck worker: /livez" "503" "$(until_is 3 503 status $url/livez >/dev/null; status $url/livez)"
another 20 "$pid" >/dev/null
most "a stuck worker: another process is ready (stall_timeout 1 s, WatchdogSec 3 s)" 6 "$(since "$begin")" s
verdict "a stuck worker: why it was ended" 1 "$(journalctl -u resnetd -o cat | grep -c 'Watchdog timeout')"
verdict "a stuck worker: and after it" 200 "$(predict)"
pid=$(property MainPID)
begin=$(now)
kill -STOP "$pid"
another 20 "$pid" >/dev/null
most "a stopped process: another one is ready" 6 "$(since "$begin")" s
sleep 8
verdict "an idle daemon is not taken for a stuck one" "$(property MainPID) 2" "$(sleep 4; property MainPID) $(property NRestarts)"

# ---- secrets

mkdir -p /etc/credstore
printf 'correct-horse-battery-staple\n' >/etc/credstore/admin-token
chmod 600 /etc/credstore/admin-token
drop_in '[Service]'
systemctl restart resnetd.service
forwarded()
{
    status -X POST -H "$json" -H 'X-Forwarded-For: 192.0.2.7' "$@" $url/v1/reload
}
verdict "the credential is the admin token" "403 200" "$(forwarded -H 'Authorization: Bearer correct-horse-battery-stable') $(forwarded -H 'Authorization: Bearer correct-horse-battery-staple')"

# ---- socket activation, without any network of its own

systemctl stop resnetd.service
cp /proof/no-network.conf /etc/systemd/system/resnetd.service.d/
drop_in '[Service]'
systemctl start resnetd.socket
verdict "systemd listens, resnetd does not run" "active inactive" "$(property ActiveState resnetd.socket) $(property ActiveState)"
verdict "who comes first starts it" "200 active" "$(predict) $(property ActiveState)"
pid=$(property MainPID)
verdict "without network: interfaces" lo "$(nsenter -t "$pid" -n ls /sys/class/net 2>/dev/null | tr '\n' ' ' | sed 's/ $//'; true)"
verdict "without network: namespace" own "$([ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/1/ns/net)" ] && echo own || echo shared)"
systemd-analyze security --no-pager resnetd.service | sed -n 's/.*Overall exposure level for resnetd.service: \([0-9.]*\).*/\1/p' >/proof/exposure
most "without network: exposure" 0.2 "$(cat /proof/exposure)"
verdict "changes over the passed unix socket" 200 "$(status -X POST --unix-socket /run/resnetd.sock -H "$json" $url/v1/reload)"
client()
{
    failed=0 n=0
    while [ ! -e /proof/enough ]; do
        [ "$(predict)" = 200 ] || failed=$((failed + 1))
        n=$((n + 1))
    done
    echo "$failed $n" >>/proof/counted
}
client & a=$!
client & b=$!
client & c=$!
for i in 1 2 3 4 5; do
    systemctl restart resnetd.service
    sleep 1
done
touch /proof/enough
wait $a $b $c
verdict "5 restarts under load: failed of $(awk '{ n += $2 } END { print n }' /proof/counted) requests" 0 "$(awk '{ f += $1 } END { print f }' /proof/counted)"
systemctl stop resnetd.socket resnetd.service
verdict "stopped" "inactive inactive" "$(property ActiveState resnetd.socket) $(property ActiveState)"
rm -f /etc/systemd/system/resnetd.service.d/*.conf
echo "nspawn: the end"
