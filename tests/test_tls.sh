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
certificate() # NAME ALTERNATIVE-NAMES ALGORITHM...
{
    name=$1 names=$2
    shift 2
    openssl req -x509 -newkey "$@" -nodes -days 2 -subj "/CN=$name" -addext "subjectAltName=$names" \
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
certificate first DNS:localhost,IP:127.0.0.1 ec -pkeyopt ec_paramgen_curve:prime256v1
certificate second DNS:localhost,IP:127.0.0.1 rsa:2048
certificate third DNS:third.example ec -pkeyopt ec_paramgen_curve:prime256v1

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

# ---- resnetctl
# ctl WHAT STATUS ARGUMENTS...
ctl()
{
    ctl_what=$1 ctl_status=$2
    shift 2
    resnetctl "$@" >"$tmp/out" 2>"$tmp/err"
    equal "$ctl_what: exit status" "$ctl_status" $?
}
ctl "resnetctl, a certificate that is not trusted" 1 status --url "$url"
match "resnetctl, a certificate that is not trusted: why, and what to do" "$url has no certificate that is trusted here: .*--cacert FILE" "$(cat "$tmp/err")"
equal "resnetctl, a certificate that is not trusted: one line" 1 "$(wc -l <"$tmp/err")"
ctl "resnetctl --cacert" 0 status --url "$url" --cacert "$tmp/first.pem"
match "resnetctl --cacert: an answer" '^queue' "$(cat "$tmp/out")"
ctl "resnetctl top --cacert" 0 top --once --url "$url/" --cacert "$tmp/first.pem"
ctl "resnetctl predict --cacert" 0 predict --url "https://localhost:$port" --cacert "$tmp/first.pem" "$photo"
match "resnetctl predict --cacert: label" ' ship$' "$(cat "$tmp/out")"
ctl "resnetctl, another's certificate" 1 precision fp32 --url "$url" --cacert "$tmp/second.pem"
match "resnetctl, another's certificate: why" 'no certificate that is trusted here' "$(cat "$tmp/err")"
ctl "resnetctl --cacert with a file that is not there" 1 status --url "$url" --cacert "$tmp/none"
match "resnetctl --cacert with a file that is not there: which" "$tmp/none: no certificates that can be read" "$(cat "$tmp/err")"
ctl "resnetctl --cacert with a file without certificates" 1 status --url "$url" --cacert "$tmp/first.key"
ctl "resnetctl in clear" 1 status --url "$plain"
match "resnetctl in clear: that nothing comes" "no answer from $plain: " "$(cat "$tmp/err")"

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

# ---- certificate and key as credentials of systemd's, with a token beside them; the certificate is for another name
mkdir "$tmp/credentials"
cp "$tmp/third.pem" "$tmp/credentials/tls-certificate"
cp "$tmp/third.key" "$tmp/credentials/tls-key"
printf 'correct-horse-battery-staple\n' >"$tmp/credentials/admin-token"
CREDENTIALS_DIRECTORY=$tmp/credentials
export CREDENTIALS_DIRECTORY
start_daemon --model "$bundled"
url=https://127.0.0.1:$port
equal "the certificate of the credentials" third "$(served)"
ctl "resnetctl, a certificate for another name" 1 status --url "$url" --cacert "$tmp/third.pem"
match "resnetctl, a certificate for another name: why" 'no certificate that is trusted here: .*name' "$(cat "$tmp/err")"
problem "a change through a proxy, without the token" 403 /v1/reload -k -X POST -H 'Via: 1.1 a'
expect "a change through a proxy, with the token of the credentials" 200 /v1/reload -k -X POST -H 'Via: 1.1 a' -H 'Authorization: Bearer correct-horse-battery-staple'
stop_daemon
rm "$tmp/credentials/tls-key"
resnetd --model "$bundled" -t >"$tmp/out" 2>&1
match "one of the two credentials" 'needed together' "$(cat "$tmp/out")"
resnetd --model "$bundled" -o "server.tls_key=$tmp/third.key" -t >"$tmp/out" 2>&1
equal "a configured key beside the certificate of the credentials" 0 $?
finish
