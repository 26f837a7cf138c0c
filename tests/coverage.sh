#!/bin/sh
# SPDX-License-Identifier: MIT
#
# coverage.sh - builds once more with counters, runs the tests, and says which lines and branches they
# reached. Ends with 1 when a test failed, when less than 90 % of the lines of a folder were reached, or when a branch of the
# guard, of admission or of the switch was not.
#
# Usage: coverage.sh SOURCE-TREE BUILD-DIRECTORY, or `make coverage`. TESTS names the tests to run (all of `make check`; with
# others the figures are told, not judged). The report: BUILD-DIRECTORY/coverage.txt by file, html/index.html line by line.

set -eu
lines=90
guarded='guard raw access request budget queue estimate change registry api_precision'
source=$(cd "$1" && pwd)
mkdir -p "$2"
cd "$2"
command -v gcovr >/dev/null || { echo "coverage.sh: gcovr is not here: apt-get install gcovr" >&2; exit 1; }
# -O1: a line is a line, and the tests take a bearable time, for which the kernels count nothing
[ -e config.status ] || "$source/configure" -q CC="${CC-gcc}" \
    CFLAGS='-g -O1 -fno-inline --coverage -fprofile-update=atomic -fprofile-exclude-files=kernels/'
make -s -j "$(nproc)"
make -s -j "$(nproc)" check TESTS= >/dev/null
find . -name '*.gcda' -exec rm -f {} +
rm -f ./*conftest.gcno
failed=0
make -s -j "$(nproc)" check ${TESTS:+TESTS="$TESTS"} || failed=1

gcovr -r "$source" --object-directory . -j "$(nproc)" --exclude-unreachable-branches --exclude-throw-branches \
    --filter "$source/daemon/" --filter "$source/models/" --json coverage.json .
report()
{
    gcovr -r "$source" -a coverage.json "$@"
}
report --txt coverage.txt
mkdir -p html
report --html-details html/index.html
report --csv | awk -F, -v least="$lines" -v guarded="$guarded" -v judge="${TESTS:+0}" '
    function percent(part, all) { return all ? 100 * part / all : 100 }
    NR == 1 { next }
    {
        folder = $1; sub(/\/[^\/]*$/, "", folder); top = folder; sub(/\/.*/, "", top)
        covered[folder] += $3; all[folder] += $2
        if (folder != top) { covered[top] += $3; all[top] += $2 }
        branches[$1] = $6 " " $5
    }
    END {
        for (f in all) {
            bad = f !~ /\// && percent(covered[f], all[f]) < least
            failed += bad
            printf "%-32s lines %5d of %5d  %5.1f %%%s\n", f, covered[f], all[f], percent(covered[f], all[f]), bad ? "  too few" : "" | "sort"
        }
        close("sort")
        n = split(guarded, name, " ")
        for (i = 1; i <= n; i++) {
            file = "daemon/" name[i] ".c"
            split(branches[file], b, " ")
            bad = !(file in branches) || b[1] != b[2]
            failed += bad
            printf "%-32s branches %3d of %3d%s\n", file, b[1], b[2], bad ? "  too few" : ""
        }
        exit judge == "" && failed
    }' || failed=1
[ "$failed" = 0 ] || echo "coverage.sh: failed tests or too little reached: see above, coverage.txt and html/" >&2
exit "$failed"
