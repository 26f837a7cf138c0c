#!/bin/sh
# SPDX-License-Identifier: MIT
#
# http.sh - HTTP under attack and under way out: vectors and corpora of others (RESNETD_CORPORA, RESNETD_TOOLS, else ../shared), then the
# clients of clients.py. `http.sh NAME...` runs those of clients.py alone.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"
corpora=${RESNETD_CORPORA-$srcdir/../shared/corpora}
tools=${RESNETD_TOOLS-$srcdir/../shared/tools/reliability}
python=${PYTHON-/usr/bin/python3}
command -v "$python" >/dev/null || {
    echo "SKIP: python3 is not here"
    exit 77
}
export srcdir builddir
status=0

# line NAME ASKED REACHED TEST...
line()
{
    line_name=$1 line_asked=$2 line_reached=$3
    shift 3
    if "$@"; then line_verdict=pass; else line_verdict=fail status=1; fi
    printf '%s: asked %s; reached %s; %s\n' "$line_name" "$line_asked" "$line_reached" $line_verdict
}

# clean_end WHAT: under sanitizers the status tells of leaks, too, and the log which
clean_end()
{
    stop_daemon
    line "clean end after $1, also under sanitizers" "status 0" "$exit_status" [ "$exit_status" -eq 0 ]
    [ "$exit_status" -eq 0 ] || tail -n 40 "$tmp/log"
}

if [ $# -eq 0 ]; then
    start_daemon --model "$bundled" -o server.max_connections_per_address=0 -o server.header_timeout=2s -o server.body_timeout=2s
    if [ -e "$tools/h1vectors_run.py" ]; then
        "$python" "$tools/h1vectors_run.py" 127.0.0.1 "$port" --vectors "$corpora/http11probe/vectors.json" >"$tmp/vectors"
        passed=$(sed -n "s/^scored MUST *{'P': \([0-9]*\).*/\1/p" "$tmp/vectors")
        desyncs=$(sed -n "s/^desync *//p" "$tmp/vectors")
        strange=$(sed -n 's/^5xx *//p' "$tmp/vectors" | grep -o "'5[0-9][0-9] " | grep -cvE '501|505')
        line "HTTP/1 vectors" ">= 97 of 111, no desync, no 5xx but 501 and 505" "$passed, $desyncs, $strange" \
            [ "$passed" -ge 97 -a "$desyncs" = "[]" -a "$strange" -eq 0 ]
    else
        echo "SKIP: HTTP/1 vectors: no $tools/h1vectors_run.py"
    fi
    if [ -d "$corpora/llhttp" ]; then
        mkdir "$tmp/h2o"
        tar -C "$tmp/h2o" -xf "$corpora/h2o-http1/http1-corpus.tar.xz"
        for set in "$corpora/llhttp/requests.json" "$tmp/h2o/http1-corpus"; do
            "$python" "$tools/rawreplay.py" 127.0.0.1 "$port" "$set" >"$tmp/replay"
            line "raw replay of $(basename "$set")" "no hang, alive" "$(sed -n "s/ first status.*//p" "$tmp/replay")" \
                eval "! grep -q hang '$tmp/replay' && grep -q '^alive.*HTTP/1.1' '$tmp/replay'"
        done
    else
        echo "SKIP: raw replay: no corpora in $corpora"
    fi
    clean_end "vectors and corpora"
    printf '[server]\nheader_timeout = 1s\nbody_timeout = 1s\nmax_connections_per_address = 0\n[log]\naccess = yes\nlevel = debug\n[model.m]\npath = %s\nprecision = int8\n' "$bundled" >"$tmp/conf"
    start_daemon -c "$tmp/conf"
    "$python" "$srcdir/tests/proof/mutate.py" "$port" "$srcdir/tests/data" "${MUTATE_SECONDS:-60}" "${SEED:-1}" || status=1
    clean_end "altered requests"
fi
"$python" "$srcdir/tests/proof/clients.py" "$@" || status=1
exit $status
