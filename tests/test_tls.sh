#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_tls.sh - the daemon's own TLS: predictions over it, a certificate replaced by a reload, a broken one that is not, versions that are
# refused, and that nothing is ever sent in clear.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"
command -v openssl >/dev/null || {
    echo "SKIP: openssl is not here"
    exit 77
}
case $(resnetd -o server.tls_certificate=/dev/null -o server.tls_key=/dev/null -t 2>&1) in
*'built without GnuTLS'*)
    echo "SKIP: built without GnuTLS"
    exit 77
    ;;
esac
photo=$srcdir/tests/data/ship.jpg
ready()
{
    [ "$(curl -s -k -o /dev/null -m 5 -w '%{http_code}' "https://127.0.0.1:$port/readyz")" = 200 ]
}
certificate() # NAME ALGORITHM...
{
    name=$1
    shift
    openssl req -x509 -newkey "$@" -nodes -days 2 -subj "/CN=$name" -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
        -keyout "$tmp/$name.key" -out "$tmp/$name.pem" 2>"$tmp/err" || fail "a certificate" "made" "$(cat "$tmp/err")"
}
use()
{
    cp "$tmp/$1.pem" "$tmp/cert.pem"
    cp "$tmp/$2.key" "$tmp/key.pem"
}
served() # the name in the certificate that a new connection gets
{
    openssl s_client -connect "127.0.0.1:$port" </dev/null 2>/dev/null | sed -n 's/^subject=.*CN *= *//p'
}
certificate first ec -pkeyopt ec_paramgen_curve:prime256v1
certificate second rsa:2048

# ---- what does not start
use first second
resnetd -o "server.tls_certificate=$tmp/cert.pem" -o "server.tls_key=$tmp/key.pem" --model "$bundled" -t >"$tmp/out" 2>&1
match "a key that is another's" 'tls_key .*key\.pem' "$(cat "$tmp/out")"
resnetd -o "server.tls_certificate=$tmp/cert.pem" --model "$bundled" -t >"$tmp/out" 2>&1
match "a certificate alone" 'needed together' "$(cat "$tmp/out")"
resnetd -o "server.tls_certificate=$tmp/none" -o "server.tls_key=$tmp/key.pem" --model "$bundled" -t >"$tmp/out" 2>&1
match "a certificate that is not there" 'none: No such file' "$(cat "$tmp/out")"

# ---- what does
use first first
conf=$tmp/conf
printf '[server]\nheader_timeout = 2s\ntls_certificate = %s\ntls_key = %s\n[model.m]\npath = %s\n' "$tmp/cert.pem" "$tmp/key.pem" "$bundled" >"$conf"
start_daemon -c "$conf" --listen "unix:$tmp/socket"
plain=$url
url=https://127.0.0.1:$port
expect "predict over TLS" 200 /predict --cacert "$tmp/first.pem" --data-binary "@$photo"
match "predict over TLS: label" '"predictions":\[\{"class":8,"label":"ship"' "$body"
head -c 3000000 /dev/zero >"$tmp/large"
expect "a large body over TLS" 200 / --cacert "$tmp/first.pem" --data-binary "@$tmp/large"
match "a large body over TLS: all of it" '"body_bytes":3000000' "$body"
expect "a switch over TLS, from this machine" 200 /precision --cacert "$tmp/first.pem" -X PUT -H 'Content-Type: application/json' -d '{"precision":"fp32"}'
equal "TLS 1.2" 200 "$(curl -s -k -o /dev/null -w '%{http_code}' --tls-max 1.2 "$url/livez")"
equal "TLS 1.1 gets no answer" 000 "$(curl -s -k -o /dev/null -w '%{http_code}' --tls-max 1.1 --tlsv1.0 "$url/livez")"
equal "the unix socket has none" 200 "$(curl -s -o /dev/null -w '%{http_code}' --unix-socket "$tmp/socket" http://localhost/livez)"
no_match "a request in clear gets nothing in clear" HTTP "$(curl -s --http0.9 -m 10 "$plain/livez" 2>&1 | tr -cd 'A-Za-z0-9')"
slow=$( (printf 'GET /livez HTTP/1.1\r\nHost: localhost\r\n'; sleep 4) | openssl s_client -quiet -connect "127.0.0.1:$port" 2>/dev/null)
equal "a slow header over TLS: the end, without a word in clear" "" "$slow"

# ---- reloads
equal "the certificate of the start" first "$(served)"
use second second
kill -HUP "$daemon_pid"
is_second()
{
    [ "$(served)" = second ]
}
checks=$((checks + 1))
wait_for $patience is_second || fail "SIGHUP takes the new certificate" second "$(served)"
expect "predict with the new certificate" 200 /predict --cacert "$tmp/second.pem" --data-binary "@$photo"
use first second
kill -HUP "$daemon_pid"
refused()
{
    grep -q 'reload failed.*tls_certificate' "$tmp/log"
}
checks=$((checks + 1))
wait_for $patience refused || fail "a broken certificate is reported" "reload failed: tls_certificate" "$(tail -n 3 "$tmp/log")"
equal "the one before it stays" second "$(served)"
printf '[model.m]\npath = %s\n' "$bundled" >"$conf"
kill -HUP "$daemon_pid"
told()
{
    grep -q 'only a restart switches TLS' "$tmp/log"
}
checks=$((checks + 1))
wait_for $patience told || fail "TLS is not switched off by a reload" "only a restart" "$(tail -n 3 "$tmp/log")"
equal "and goes on" second "$(served)"
stop_daemon
equal "exit status" 0 "$exit_status"
finish
