# SPDX-License-Identifier: MIT
# shellcheck shell=sh disable=SC2034
#
# ctl.sh - what the tests of resnetctl share: a scratch directory, the program, expectations about its status, output and errors.
#
# A test sources it and ends with `[ $bad -eq 0 ]` or so; a failure is told and the test goes on. lib.sh is for tests with a daemon.

LC_ALL=C
export LC_ALL
src=${srcdir:-.}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/resnetctl-test.XXXXXX") || exit 99
pid= # of a program in the background
trap '[ -z "$pid" ] || kill -9 $pid 2>/dev/null; rm -rf "$tmp"' EXIT
trap 'exit 99' HUP INT TERM
bad=0

ctl() {
    # shellcheck disable=SC2086 # the emulator comes with its options
    ${EMULATOR-} "${builddir:-.}/resnetctl" "$@"
}

complain() {
    echo "FAIL: $*"
    bad=$((bad + 1))
}

# expect STATUS ARGUMENTS...: runs resnetctl, leaves its output in $tmp/out and $tmp/err
expect() {
    want=$1
    shift
    ctl "$@" >"$tmp/out" 2>"$tmp/err"
    got=$?
    grep -q 'Sanitizer\|runtime error' "$tmp/err" && complain "resnetctl $*: $(grep -m 1 'Sanitizer\|runtime error' "$tmp/err")"
    [ $got -eq "$want" ] && return 0
    complain "resnetctl $*: exit status $got, expected $want"
    head -n 5 "$tmp/err"
    return 1
}

# says PATTERN: the last error names it
says() {
    grep -q -- "$1" "$tmp/err" || complain "the error does not say '$1': $(head -n 1 "$tmp/err")"
}

# values NAME: every value of that field in the last JSON output, one per line
values() {
    sed -n "s/^[[:space:]]*\"$1\":[[:space:]]*\"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$tmp/out"
}

# at_least WHAT VALUE LIMIT
at_least() {
    awk -v v="$2" -v l="$3" 'BEGIN { exit !(v != "" && v != "null" && v + 0 >= l) }' || complain "$1 is ${2:-missing}, expected at least $3"
}

# equal WHAT A B
equal() {
    [ "$2" = "$3" ] || complain "$1: '$2' and '$3'"
}
