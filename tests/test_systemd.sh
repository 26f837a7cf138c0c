#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_systemd.sh - what resnetd and systemd agree upon, as far as it can be seen without a running systemd: the units are valid and
# as closed as they claim, passed sockets are served and outlive the daemon, a credential is the admin token, a wrong configuration
# has a status of its own. tests/proof/nspawn.sh looks at the rest in a container.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"

json='Content-Type: application/json'

# ---- no BLAS comes in through the back door

if [ -z "$EMULATOR" ] && command -v ldd >/dev/null; then
    no_match "resnetd links no BLAS" 'blas' "$(ldd "$builddir/resnetd")"
fi

# ---- the units

units=$tmp/units
mkdir -p "$units/resnetd.service.d"
sed "s,@sbindir@,$builddir,g" "$srcdir/etc/resnetd.service" >"$units/resnetd.service"
cp "$srcdir/etc/resnetd.socket" "$units"

exposure()
{
    systemd-analyze security --offline=yes --no-pager --threshold="$1" "$units/resnetd.service" >"$tmp/out" 2>&1
    exposed=$?
    equal "exposure of resnetd.service $2: at most $1 tenths: $(tail -n 1 "$tmp/out")" 0 $exposed
}

verified()
{
    equal "systemd-analyze verify $1 is silent" "" "$(SYSTEMD_UNIT_PATH="$units:" systemd-analyze verify --man=no "$units/resnetd.service" "$units/resnetd.socket" 2>&1)"
}

if [ -z "$EMULATOR" ] && systemd-analyze security --help 2>/dev/null | grep -q -e --offline; then
    verified "as they are"
    exposure 9 "as it is"
    printf '[Service]\nIPAddressDeny=\nIPAddressAllow=\nSocketBindAllow=tcp:80\n' >"$units/resnetd.service.d/drop-in.conf"
    verified "for a local network"
    exposure 11 "for a local network"
    cp "$srcdir/etc/no-network.conf" "$units/resnetd.service.d/drop-in.conf"
    verified "without network"
    exposure 2 "without network"
else
    echo "SKIP: the units: no systemd-analyze here that can look at files"
fi
for unit in resnetd.service resnetd.socket no-network.conf; do
    equal "$unit: every group of directives says why" "" "$(awk '/^$/ { reason = 0 } /^#/ { reason = 1 }
        /^\[/ { reason = 1 } /^[A-Z][A-Za-z]*=/ && !reason { print }' "$srcdir/etc/$unit")"
done

# ---- status 78

printf '[server]\nlisten = nowhere\n' >"$tmp/bad.conf"
for option in -t --print-config ''; do
    # shellcheck disable=SC2086
    resnetd -c "$tmp/bad.conf" $option >"$tmp/out" 2>&1
    equal "a wrong configuration${option:+ with $option}: exit status" 78 $?
done
resnetd -c "$tmp/no-such.conf" -t >"$tmp/out" 2>&1
equal "no configuration where one should be: exit status" 78 $?
match "the unit does not start that again" '^RestartPreventExitStatus=78$' "$(cat "$srcdir/etc/resnetd.service")"

# ---- a credential

mkdir "$tmp/credentials"
printf 'correct-horse-battery-staple\n' >"$tmp/credentials/admin-token"
export CREDENTIALS_DIRECTORY="$tmp/credentials"
match "the credential is in effect" "^admin_token_file = $tmp/credentials/admin-token$" "$(resnetd --model "$bundled" --print-config)"
match "a configured file comes first" "^admin_token_file = /dev/null$" \
    "$(resnetd --model "$bundled" -o server.admin_token_file=/dev/null --print-config)"
start_daemon --model "$bundled"
expect "reload through a proxy, without the token" 403 /v1/reload -X POST -H "$json" -H 'X-Forwarded-For: 192.0.2.7'
expect "reload through a proxy, with it" 200 /v1/reload -X POST -H "$json" -H 'X-Forwarded-For: 192.0.2.7' \
    -H 'Authorization: Bearer correct-horse-battery-staple'
stop_daemon
unset CREDENTIALS_DIRECTORY

# ---- passed sockets: the tool listens as systemd would, and starts the daemon when somebody comes

activated()
{
    for try in 1 2 3 4 5; do
        port=$(some_port)
        url=http://127.0.0.1:$port
        # shellcheck disable=SC2086
        systemd-socket-activate -E RESNETD_DATA -l "127.0.0.1:$port" -l "$tmp/socket" --fdname=web:local \
            $EMULATOR "$builddir/resnetd" --model "$bundled" "$@" 2>"$tmp/log" &
        daemon_pid=$!
        wait_for 10 grep -q 'Listening on .*socket' "$tmp/log" && return 0
        wait "$daemon_pid"
    done
    fail "systemd-socket-activate listens" "a line that says so" "$(cat "$tmp/log")"
    finish
}

if command -v systemd-socket-activate >/dev/null && grep -q 'define HAVE_SYSTEMD 1' "$builddir/config.h"; then
    activated --listen 127.0.0.1:1
    expect "the first request starts the daemon and is answered" 200 /readyz
    match "it says whose sockets it serves" "listening on 127.0.0.1:$port, a socket of systemd's" "$(cat "$tmp/log")"
    no_match "and not on what listen says" 'listening on 127\.0\.0\.1:1$' "$(cat "$tmp/log")"
    problem "a foreign name on a passed loopback socket" 403 /livez -H 'Host: evil.example'
    expect "a passed unix socket" 200 /v1/status --unix-socket "$tmp/socket"
    expect "who may write to it may change things" 200 /v1/reload --unix-socket "$tmp/socket" -X POST -H "$json"
    stop_daemon
    equal "stopped: exit status" 0 "$exit_status"
    checks=$((checks + 1))
    [ -S "$tmp/socket" ] || fail "the path of a passed unix socket stays" "$tmp/socket" "gone"
else
    echo "SKIP: passed sockets: no systemd-socket-activate here, or a build without libsystemd"
fi
finish
