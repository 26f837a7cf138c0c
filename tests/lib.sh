# SPDX-License-Identifier: MIT
# shellcheck shell=sh disable=SC2034,SC2086
#
# lib.sh - what the end-to-end tests share: a scratch directory, a daemon on a free port, requests, expectations.
#
# A test sources it, makes expectations, and ends with `finish`. A failure prints what was expected and what came, and the test
# goes on, so that one run shows all of them. Our programs start through $EMULATOR, which a cross build sets.

srcdir=$(cd "${srcdir:-.}" && pwd) || exit 99
builddir=$(cd "${builddir:-.}" && pwd) || exit 99
EMULATOR=${EMULATOR-}
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
bundled=$srcdir/models/resnet20-cifar10
tmp=$(mktemp -d "${TMPDIR:-/tmp}/resnetd-test.XXXXXX") || exit 99
daemon_pid=
failures=0
checks=0

# An emulator needs its time.
if [ -n "$EMULATOR" ]; then patience=120; else patience=30; fi

clean_up()
{
    [ -z "$daemon_pid" ] || kill -KILL "$daemon_pid" 2>/dev/null
    rm -rf "$tmp"
}
trap clean_up EXIT
trap 'exit 99' HUP INT TERM

command -v curl >/dev/null || {
    echo "SKIP: curl is not here"
    exit 77
}

resnetd()
{
    $EMULATOR "$builddir/resnetd" "$@"
}

resnetctl()
{
    $EMULATOR "$builddir/resnetctl" "$@"
}

# fail WHAT EXPECTED CAME
fail()
{
    failures=$((failures + 1))
    printf 'FAIL: %s\n    expected: %s\n    came:     %s\n' "$1" "$2" "$(printf '%s' "$3" | head -c 2000)"
}

# equal WHAT EXPECTED CAME
equal()
{
    checks=$((checks + 1))
    [ "$2" = "$3" ] || fail "$1" "$2" "$3"
}

# match WHAT EXTENDED-REGULAR-EXPRESSION TEXT: some line of the text matches.
match()
{
    checks=$((checks + 1))
    printf '%s\n' "$3" | grep -Eq -- "$2" || fail "$1" "a match of $2" "$3"
}

# no_match WHAT EXTENDED-REGULAR-EXPRESSION TEXT
no_match()
{
    checks=$((checks + 1))
    ! printf '%s\n' "$3" | grep -Eq -- "$2" || fail "$1" "no match of $2" "$3"
}

finish()
{
    printf '%s: %d checks, %d failed\n' "$(basename "$0")" "$checks" "$failures"
    [ "$failures" -eq 0 ]
    exit
}

# wait_for SECONDS COMMAND...: polls until the command succeeds.
wait_for()
{
    wait_until=$(($(date +%s) + $1))
    shift
    until "$@"; do
        [ "$(date +%s)" -le "$wait_until" ] || return 1
        sleep 0.05
    done
}

alive()
{
    kill -0 "$1" 2>/dev/null
}

ready()
{
    [ "$(curl -s -o /dev/null -m 5 -w '%{http_code}' "$url/readyz")" = 200 ]
}

ready_or_gone()
{
    ready || ! alive "$daemon_pid"
}

# A port by chance, below those that the system gives to clients.
some_port()
{
    echo $((20000 + $(od -A n -N 2 -t u2 /dev/urandom) % 12000))
}

# start_daemon OPTIONS...: on a free loopback port; sets url, port, daemon_pid; its log is $tmp/log. There is no way to ask for a
# free port and keep it, so a port that is taken is answered by the next try.
start_daemon()
{
    for try in 1 2 3 4 5 6 7 8 9 10; do
        port=$(some_port)
        url=http://127.0.0.1:$port
        $EMULATOR "$builddir/resnetd" --listen "127.0.0.1:$port" "$@" 2>"$tmp/log" &
        daemon_pid=$!
        wait_for $patience ready_or_gone
        if alive "$daemon_pid" && ready; then
            return 0
        fi
        grep -qi 'in use' "$tmp/log" || break
    done
    fail "the daemon starts" "200 from /readyz within $patience s" "$(cat "$tmp/log")"
    finish
}

# stop_daemon: SIGTERM; sets exit_status.
stop_daemon()
{
    kill -TERM "$daemon_pid"
    wait "$daemon_pid"
    exit_status=$?
    daemon_pid=
}

# request PATH [CURL OPTIONS...]: sets status, body (NUL characters removed), headers (carriage returns removed).
request()
{
    request_path=$1
    shift
    : >"$tmp/body"
    : >"$tmp/headers"
    status=$(curl -s -m $patience -o "$tmp/body" -D "$tmp/headers" -w '%{http_code}' -H 'Expect:' "$@" "$url$request_path")
    body=$(tr -d '\000' <"$tmp/body")
    headers=$(tr -d '\r' <"$tmp/headers")
}

# field NAME: the first value of that name in the JSON of $body, without quotes.
field()
{
    printf '%s' "$body" | tr -d '\n' | sed -n 's/.*"'"$1"'"[[:space:]]*:[[:space:]]*"\{0,1\}\([^",}]*\).*/\1/p' | head -n 1
}

# expect WHAT STATUS PATH [CURL OPTIONS...]: a request and its status.
expect()
{
    expect_what=$1
    expect_status=$2
    shift 2
    request "$@"
    checks=$((checks + 1))
    [ "$status" = "$expect_status" ] || fail "$expect_what" "status $expect_status" "status $status: $body"
}

# problem WHAT STATUS PATH [CURL OPTIONS...]: the same, and the body is problem+json with that status and a reason in words.
problem()
{
    expect "$@"
    match "$1: type of the error" '^[Cc]ontent-[Tt]ype: application/problem\+json' "$headers"
    match "$1: status in the error" '"status"[[:space:]]*:[[:space:]]*'"$2" "$body"
    match "$1: reason in words" '"detail"[[:space:]]*:[[:space:]]*"[^"]*[a-z]+ [a-z]+' "$body"
}
