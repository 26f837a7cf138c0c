#!/bin/sh
# SPDX-License-Identifier: MIT
#
# run.sh - builds the fuzz targets with clang's engine, AddressSanitizer and UndefinedBehaviorSanitizer, and lets each run.
#
# Usage: run.sh SOURCE-TREE BUILD-DIRECTORY, or `make fuzz`. The environment says more:
#     TARGETS   names without "fuzz_" (all of them)      RUNS     executions of each target (100000)
#     SECONDS_EACH  an end for each in any case (120)    CLANG    the compiler (clang)
# What was learnt stays in BUILD-DIRECTORY/corpus/NAME, and a next run goes on from there. An input that fails is written to
# BUILD-DIRECTORY/found/NAME-*; mend the cause, then store it in tests/fuzz/NAME, where `make check` replays it.

set -eu
source=$(cd "$1" && pwd)
mkdir -p "$2"
build=$(cd "$2" && pwd)
clang=${CLANG-clang}
runs=${RUNS-100000}
seconds=${SECONDS_EACH-120}

command -v "$clang" >/dev/null || { echo "run.sh: there is no $clang here: apt-get install clang" >&2; exit 1; }
cd "$build"
[ -e config.status ] || "$source/configure" -q --enable-fuzzing CC="$clang" CFLAGS='-g -O1'
make -s -j "$(nproc)" fuzz_targets

# Freed memory waits in a quarantine: 16 MiB are that of hundreds of runs, and stay in the cache, which 256 MiB do not.
export ASAN_OPTIONS=quarantine_size_mb=16${ASAN_OPTIONS:+:$ASAN_OPTIONS}

targets=${TARGETS-$(cd tests/fuzz && ls | sed -n 's/^fuzz_\([a-z_]*\)$/\1/p')}
failed=0
for name in $targets; do
    mkdir -p "corpus/$name" found
    dictionary=$source/tests/fuzz/$name.dict
    [ -e "$dictionary" ] && set -- "-dict=$dictionary" || set --
    # 8 KiB hold every structure these parsers know; ten seconds on so little are a finding
    if nice -n 19 "tests/fuzz/fuzz_$name" -runs="$runs" -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=1024 \
        -reload=0 -print_final_stats=1 "$@" -artifact_prefix="found/$name-" \
        "corpus/$name" "$source/tests/fuzz/$name" >"$name.log" 2>&1; then
        verdict=pass
    else
        verdict=fail failed=1
        tail -n 40 "$name.log"
    fi
    printf 'fuzz %s: %s asked, %s executions in %s s, coverage %s edges, %s\n' "$name" "$runs" \
        "$(sed -n 's/^stat::number_of_executed_units: *//p' "$name.log")" \
        "$(sed -n 's/^Done [0-9]* runs in \([0-9]*\) second.*/\1/p' "$name.log")" \
        "$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$name.log" | tail -n 1)" $verdict
done
exit $failed
