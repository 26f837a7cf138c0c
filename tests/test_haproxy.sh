#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_haproxy.sh - TLS the documented way: the real HAProxy with etc/haproxy.cfg in front of the daemon. Only its ports, the place of
# its certificate and its privileges are changed.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"
PATH=$PATH:/usr/sbin
for tool in haproxy openssl; do
    command -v $tool >/dev/null || {
        echo "SKIP: $tool is not here"
        exit 77
    }
done
photo=$srcdir/tests/data/ship.jpg
json='Content-Type: application/json'
token=correct-horse-battery-staple
printf '%s\n' $token >"$tmp/token"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=pi.example.org \
    -addext subjectAltName=DNS:pi.example.org -keyout "$tmp/key.pem" -out "$tmp/cert.pem" 2>"$tmp/err" || fail "a certificate" "made" "$(cat "$tmp/err")"
cat "$tmp/cert.pem" "$tmp/key.pem" >"$tmp/resnetd.pem"

start_daemon --model "$bundled" -o server.hosts=pi.example.org -o server.max_connections_per_address=0 -o "server.admin_token_file=$tmp/token"
plain=$url
for try in 1 2 3 4 5 6 7 8 9 10; do
    tls_port=$(some_port)
    sed -e "s,bind :443,bind 127.0.0.1:$tls_port," -e "s,/etc/haproxy/resnetd.pem,$tmp/resnetd.pem," -e "s,127.0.0.1:8080,127.0.0.1:$port," \
        "$srcdir/etc/haproxy.cfg" >"$tmp/haproxy.cfg"
    haproxy -c -q -f "$tmp/haproxy.cfg" >"$tmp/check" 2>&1
    equal "HAProxy accepts etc/haproxy.cfg: exit status" 0 $?
    equal "HAProxy accepts etc/haproxy.cfg: warnings" "" "$(cat "$tmp/check")"
    haproxy -db -f "$tmp/haproxy.cfg" >"$tmp/haproxy.log" 2>&1 &
    proxy_pid=$!
    url=https://pi.example.org:$tls_port
    through="--cacert $tmp/cert.pem --resolve pi.example.org:$tls_port:127.0.0.1"
    ready_through()
    {
        # shellcheck disable=SC2086
        [ "$(curl -s -o /dev/null -m 5 $through -w '%{http_code}' "$url/readyz")" = 200 ] || ! alive $proxy_pid
    }
    wait_for $patience ready_through
    alive $proxy_pid && break
    grep -q 'cannot bind' "$tmp/haproxy.log" || break
done
trap 'kill -KILL $proxy_pid 2>/dev/null; clean_up' EXIT

# shellcheck disable=SC2086
{
    expect "live, through the proxy" 200 /livez $through
    expect "predict, through the proxy" 200 /predict $through --data-binary "@$photo"
    match "predict, through the proxy: label" '"predictions":\[\{"class":8,"label":"ship"' "$body"
    expect "predict in HTTP/1.1" 200 /predict $through --http1.1 --data-binary "@$photo"
    request / $through -d hello
    match "what arrives: forwarded" '"body_bytes":5.*"host":"pi.example.org".*"may_change":false.*X-Forwarded-For' "$body"
    problem "PUT through the proxy" 403 /precision $through -X PUT -H "$json" -d '{"precision":"fp32"}'
    match "PUT through the proxy: why" 'forwarded \(X-Forwarded-For\)' "$body"
    problem "PUT as if from here" 403 /precision $through -X PUT -H "$json" -d '{"precision":"fp32"}' -H 'X-Forwarded-For: 127.0.0.1' \
        -H 'X-Forwarded-Host: localhost' -H 'Forwarded: for=127.0.0.1' -H 'X-Real-IP: 127.0.0.1' -H "Host: localhost"
    problem "drain through the proxy" 403 /v1/drain $through -X POST -H "$json"
    problem "a name that is not configured" 403 /livez $through -H 'Host: evil.example'
    problem "PUT with a wrong token" 403 /precision $through -X PUT -H "$json" -d '{"precision":"fp32"}' -H "Authorization: Bearer ${token}x"
    expect "PUT with the token" 200 /precision $through -X PUT -H "$json" -d '{"precision":"fp32"}' -H "Authorization: Bearer $token"
    equal "PUT with the token: active" fp32 "$(field active)"
    no_match "status through the proxy names no paths" "$tmp|$bundled" "$(curl -s $through "$url/v1/status")"
    old_tls=$(curl -s -o /dev/null -m 10 -w "%{http_code}" $through --tls-max 1.1 "$url/livez")
    equal "TLS 1.1 gets no answer" 000 "$old_tls"
}
kill -TERM $proxy_pid
wait $proxy_pid 2>/dev/null
url=$plain
expect "and without the proxy" 200 /livez
stop_daemon
equal "the daemon's exit status" 0 "$exit_status"
finish
