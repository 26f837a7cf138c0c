#!/bin/sh
# SPDX-License-Identifier: MIT
#
# coverage.sh - builds once more with counters, runs the tests, and says which lines and branches they reached.
#
# Usage: coverage.sh SOURCE-TREE BUILD-DIRECTORY, or `make coverage`. TESTS names the tests to run (all of `make check`).
# The report: BUILD-DIRECTORY/coverage.txt by file, coverage.html line by line.

set -eu
source=$(cd "$1" && pwd)
mkdir -p "$2"
cd "$2"
command -v gcovr >/dev/null || { echo "coverage.sh: gcovr is not here: apt-get install gcovr" >&2; exit 1; }
# without vectors of functions being inlined and merged, a line is a line; -O1 keeps the tests' time bearable
[ -e config.status ] || "$source/configure" -q CC="${CC-gcc}" CFLAGS='-g -O1 -fno-inline --coverage -fprofile-update=atomic'
make -s -j "$(nproc)"
make -s -j "$(nproc)" check TESTS= >/dev/null
find . -name '*.gcda' -exec rm -f {} +
make -s -j "$(nproc)" check ${TESTS:+TESTS="$TESTS"} || echo "coverage.sh: tests failed; what they reached is counted"
report()
{
    gcovr -r "$source" --object-directory . -j "$(nproc)" --exclude-unreachable-branches --exclude-throw-branches "$@" .
}
report --filter "$source/daemon/" --filter "$source/models/" -s --html-details coverage.html -o coverage.txt --txt
report --branches --filter "$source/daemon/(guard|raw|access|budget|queue|estimate|change|registry)\.c" --txt branches.txt
tail -n 5 coverage.txt
grep -E '^daemon/' branches.txt
