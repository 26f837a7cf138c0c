#!/bin/sh
# SPDX-License-Identifier: MIT
#
# system_calls.sh - system calls that fail, one after the other, by strace: at start, while the daemon predicts, switches and reloads,
# and while resnetctl writes model files; then a full disk, no descriptors, no threads. What was there before or what was wanted is
# there afterwards, never half of it; the daemon lives, or refuses to start with a message. Needs strace and root (full disk, other
# user).

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"
command -v strace >/dev/null || { echo "SKIP: strace is not here"; exit 77; }
strace -o "$tmp/trace" true 2>/dev/null || { echo "SKIP: strace may not trace here"; exit 77; }
json='Content-Type: application/json'
set -- "$srcdir"/tests/proof/images/*.jpg
photo=$1
dir=$tmp/net
cp -r "$bundled" "$dir"
status=0
tries=0
injected=0

# report NAME ASKED
report()
{
    echo "system calls, $1: $2; reached $tries tries, $injected failing calls, $failures failures, $([ $failures = 0 ] && echo pass || echo fail)"
    [ $failures = 0 ] || status=1
    failures=0 tries=0 injected=0
}

logits()
{
    curl -s -m $patience -H 'Expect:' --data-binary "@$photo" "$url/predict?logits=1" |
        sed 's/.*"precision":"\([a-z0-9]*\)".*"logits":\[\([^]]*\)\].*/\1 \2/'
}

# ---- start: the call fails once, at its first, second ... use

start_daemon --model "$dir" # a port
for precision in fp16 int8; do
    request /precision -X PUT -H "$json" -d "{\"precision\":\"$precision\"}"
    logits >>"$tmp/references"
done
stop_daemon
start_with() # CALL ERROR N: 1 when there was such a call
{
    tries=$((tries + 1))
    strace -f -qq -o "$tmp/trace" -e "trace=$1" -e "inject=$1:error=$2:when=$3" \
        "$builddir/resnetd" --listen "127.0.0.1:$port" --model "$dir" >"$tmp/log" 2>&1 &
    daemon_pid=$!
    answering()
    {
        [ "$(curl -s -o /dev/null -m 2 -w '%{http_code}' "$url/livez")" = 200 ] || ! alive $daemon_pid
    }
    if ! wait_for $patience answering; then
        fail "start with $1 $3 failing by $2" "serves or ends" "neither: $(tail -n 3 "$tmp/log")"
        kill -KILL "$daemon_pid"
    elif alive $daemon_pid; then
        grep -qxF "$(logits)" "$tmp/references" || grep -qxF "$(logits)" "$tmp/references" ||
            fail "start with $1 $3 failing by $2" "an answer" "$(logits)"
    fi
    # strace passes the signal that ended its child on as its own end
    kill -TERM "$(pgrep -P "$daemon_pid" | head -n 1)" 2>/dev/null
    wait "$daemon_pid"
    rc=$?
    daemon_pid=
    [ $rc -lt 126 ] || [ $rc = 127 ] || fail "start with $1 $3 failing by $2" "an ordinary end" "$rc: $(tail -n 3 "$tmp/log")"
    [ $rc = 0 ] || [ -s "$tmp/log" ] || fail "start with $1 $3 failing by $2" "a message" "none"
    grep -q INJECTED "$tmp/trace" && injected=$((injected + 1))
}
for call in openat:EMFILE openat:EIO read:EIO pread64:EIO newfstatat:EIO fstat:EIO mmap:ENOMEM epoll_create1:EMFILE eventfd2:EMFILE \
    socket:EMFILE bind:EADDRINUSE listen:EADDRINUSE clone3:EAGAIN sched_getaffinity:ENOSYS madvise:EINVAL munmap:EINVAL; do
    n=1
    [ "${call%:*}" != mmap ] || n=2 # the first is the dynamic loader's, which then crashes, as it does for every program
    while [ $n -le "${SYSTEM_CALLS_MAX:-12}" ]; do
        # The third thread and later ones: pthreadpool_create does not survive a refusal, so threads.c asks before.
        [ "${call%:*}" != clone3 ] || [ $n -le 2 ] || break
        start_with "${call%:*}" "${call#*:}" $n || break
        n=$((n + 1))
    done
done
report start "serves, or ends with a message"

# ---- a daemon at work

start_daemon --model "$dir" -o log.level=warning
attach() # CALL ERROR N
{
    rm -f "$tmp/trace"
    strace -f -qq -o "$tmp/trace" -e "trace=$1" -e "inject=$1:error=$2:when=$3" -p "$daemon_pid" 2>/dev/null &
    tracer=$!
    traced()
    {
        for task in "/proc/$daemon_pid/task"/*/status; do
            grep -q '^TracerPid:.[1-9]' "$task" || return 1
        done
    }
    wait_for 10 traced
}
detach()
{
    kill -INT $tracer
    wait $tracer
}
attempt() # WHAT CALL ERROR N CURL-ARGUMENTS...: 1 when the call was not made
{
    what=$1 call=$2 error=$3 nth=$4
    shift 4
    tries=$((tries + 1))
    attach "$call" "$error" "$nth"
    came=$(curl -s -m 15 -o "$tmp/body" -w '%{http_code}' -H 'Expect:' "$@")
    rc=$?
    detach
    case $came:$rc in
    *:28) fail "$what with $call $nth failing by $error" "an answer or an end" "neither" ;;
    200:* | 404:* | 409:* | 500:* | 503:* | 000:*) ;;
    *) fail "$what with $call $nth failing by $error" "200, 404, 409, 500, 503 or no answer" "$came $(cat "$tmp/body")" ;;
    esac
    if ! alive "$daemon_pid"; then
        fail "$what with $call $nth failing by $error" "a daemon" "it died: $(tail -n 2 "$tmp/log")"
        start_daemon --model "$dir" -o log.level=warning
        return 1
    fi
    answer=$(logits)
    [ -n "$answer" ] || answer=$(logits)
    grep -qxF "$answer" "$tmp/references" || fail "after $what with $call $nth failing by $error" "whole answers" "$answer"
    expect "ready after $what with $call $nth failing by $error" 200 /readyz
    grep -q INJECTED "$tmp/trace" && injected=$((injected + 1))
}
each() # WHAT CALLS CURL-ARGUMENTS...
{
    each_what=$1 each_calls=$2
    shift 2
    for each_call in $each_calls; do
        n=1
        while [ $n -le "${SYSTEM_CALLS_MAX:-12}" ]; do
            [ "${each_call%:*}" != clone3 ] || [ $n -le 2 ] || break
            attempt "$each_what" "${each_call%:*}" "${each_call#*:}" $n "$@" || break
            [ "$each_what" != switch ] || request /precision -X PUT -H "$json" -d '{"precision":"int8"}'
            n=$((n + 1))
        done
    done
}
# Additions to an epoll set are refused by no_memory.sh: strace cannot tell them from removals, which cannot fail, and whose failure
# libmicrohttpd takes for a reason to abort. Nor is write refused by EAGAIN: the only ones are to an eventfd, which says so when its
# reader has been woken 2^64 times and has not looked.
each predict 'accept4:EMFILE accept4:ECONNABORTED recvfrom:ECONNRESET sendto:EPIPE sendmsg:EPIPE mmap:ENOMEM' \
    --data-binary "@$photo" "$url/predict"
report predict "lives, the next request is answered"
each switch 'openat:EMFILE openat:EIO fstat:EIO newfstatat:EIO read:EIO pread64:EIO mmap:ENOMEM munmap:EINVAL clone3:EAGAIN madvise:ENOMEM' \
    -X PUT -H "$json" -d '{"precision":"fp16"}' "$url/precision"
report switch "the old precision or the new one, whole; lives"
each reload 'openat:EMFILE openat:EIO fstat:EIO newfstatat:EIO read:EIO pread64:EIO mmap:ENOMEM clone3:EAGAIN' -X POST -H "$json" "$url/v1/reload"
report reload "the old configuration or the new one; lives"
stop_daemon
equal "exit status" 0 "$exit_status"

# ---- resnetctl writes: the file is the old one or the new one

same() # FILE: it is one of the two
{
    cmp -s "$1" "$tmp/old" || cmp -s "$1" "$tmp/new"
}
out=$tmp/out
mkdir "$out"
cp "$bundled/hybrid.safetensors" "$tmp/old" # some other file in its place
resnetctl quantize "$bundled" -o "$tmp/new.safetensors" --precision fp16 >/dev/null
mv "$tmp/new.safetensors" "$tmp/new"
for call in openat:EMFILE openat:ENOSPC read:EIO pread64:EIO write:ENOSPC write:EIO pwrite64:EIO fsync:EIO linkat:EXDEV rename:EACCES renameat:EACCES renameat2:EACCES \
    unlink:EACCES unlinkat:EACCES ftruncate:EIO fallocate:ENOSPC mmap:ENOMEM close:EIO; do
    n=1
    [ "${call%:*}" != mmap ] || n=2
    while [ $n -le "${SYSTEM_CALLS_MAX:-12}" ]; do
        tries=$((tries + 1))
        cp "$tmp/old" "$out/fp16.safetensors"
        strace -f -qq -o "$tmp/trace" -e "trace=${call%:*}" -e "inject=${call%:*}:error=${call#*:}:when=$n" \
            "$builddir/resnetctl" quantize "$bundled" -o "$out" --precision fp16 --threads 1 >"$tmp/said" 2>&1
        rc=$?
        grep -q INJECTED "$tmp/trace" || break
        injected=$((injected + 1))
        same "$out/fp16.safetensors" || fail "resnetctl with $call $n" "the old file or the new one" "$(ls -l "$out")"
        [ "$(ls -A "$out" | wc -l)" = 1 ] || fail "resnetctl with $call $n" "no other file" "$(ls -A "$out")"
        [ $rc -lt 128 ] || fail "resnetctl with $call $n" "an ordinary end" "$rc"
        [ $rc = 0 ] || [ -s "$tmp/said" ] || fail "resnetctl with $call $n" "a message" "none"
        n=$((n + 1))
    done
done
report resnetctl "the old file or the new one, nothing beside it, a message"

# ---- a full disk

if mkdir "$tmp/small" && mount -t tmpfs -o size=1m none "$tmp/small" 2>/dev/null; then
    cp "$tmp/old" "$tmp/small/fp32.safetensors"
    head -c 700000 /dev/zero >"$tmp/small/filler"
    for what in "quantize $bundled -o $tmp/small --precision fp16" "quantize $bundled -o $tmp/small/fp32.safetensors --precision fp16"; do
        tries=$((tries + 1))
        # shellcheck disable=SC2086
        resnetctl $what >"$tmp/said" 2>&1
        equal "resnetctl ${what%% *} on a full disk: exit status" 1 $?
        match "resnetctl ${what%% *} on a full disk: the reason" 'No space left' "$(cat "$tmp/said")"
        cmp -s "$tmp/old" "$tmp/small/fp32.safetensors" || fail "the old file on a full disk" "as it was" "changed"
        equal "files on a full disk" "filler fp32.safetensors " "$(ls -A "$tmp/small" | tr '\n' ' ')"
    done
    umount "$tmp/small"
    report "full disk" "the old file, nothing beside it, a message"
else
    echo "SKIP: full disk: no tmpfs can be mounted here"
fi

# ---- no descriptors, no threads

for limit in 3 4 5 6 8 10 12 16 24; do
    tries=$((tries + 1))
    prlimit --nofile=$limit "$builddir/resnetd" --listen "127.0.0.1:$port" --model "$dir" >"$tmp/log" 2>&1 &
    daemon_pid=$!
    wait_for $patience answering || fail "$limit descriptors" "serves or ends" "neither: $(tail -n 3 "$tmp/log")"
    if alive $daemon_pid; then
        kill -TERM $daemon_pid
    else
        [ -s "$tmp/log" ] || fail "$limit descriptors" "a message" "none"
    fi
    wait $daemon_pid
    [ $? -lt 128 ] || fail "$limit descriptors" "an ordinary end" "a signal"
    daemon_pid=
done
report descriptors "serves, or ends with a message"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    chmod -R a+rX "$tmp"
    for limit in 1 2 3 4 5 6; do
        tries=$((tries + 1))
        # As a user who owns nothing else here, whose threads are counted.
        prlimit --nproc=$limit setpriv --reuid 64999 --regid 64999 --clear-groups "$builddir/resnetd" --listen "127.0.0.1:$port" --model "$dir" \
            >"$tmp/log" 2>&1 &
        daemon_pid=$!
        wait_for $patience answering || fail "$limit threads" "serves or ends" "neither: $(tail -n 3 "$tmp/log")"
        if alive $daemon_pid; then
            for precision in fp16 int8; do
                request /precision -X PUT -H "$json" -d "{\"precision\":\"$precision\"}"
                [ "$status" = 200 ] || [ "$status" = 403 ] || fail "switch with $limit threads" 200 "$status $body"
            done
            status=0
            grep -qxF "$(logits)" "$tmp/references" || fail "$limit threads" "an answer" "$(logits)"
            kill -TERM $daemon_pid
            injected=$((injected + 1))
        else
            [ -s "$tmp/log" ] || fail "$limit threads" "a message" "none"
        fi
        wait $daemon_pid
        [ $? -lt 128 ] || fail "$limit threads" "an ordinary end" "a signal"
        daemon_pid=
    done
    report threads "serves, or ends with a message (calls: how many served)"
else
    echo "SKIP: threads: needs root and setpriv"
fi
exit $status
