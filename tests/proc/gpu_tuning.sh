#!/bin/bash
# Tuning files from beginning to end, over the fake driver: what `trtcollctl tune` writes is what a daemon explains with, and a file of
# another GPU is in effect, but not silently; trtcoll-bench measures with a file.
set -u
ctl=$TRTCOLL_TEST_CTL
failures=0
daemon_pid=

TMPDIR=$(mktemp -d) || exit 1
export TMPDIR
export RUNTIME_DIRECTORY=$TMPDIR/run

stop_daemon()
{
    [[ -n $daemon_pid ]] || return
    kill "$daemon_pid"
    wait "$daemon_pid"
    daemon_pid=
}
trap 'stop_daemon; rm -rf "$TMPDIR"' EXIT

fail()
{
    echo "FAILED: $*"
    failures=$((failures + 1))
}

configure() # file that choosing.tuning names, or nothing
{
    printf '{"devices": {"cuda": 3}, "choosing": {"tuning": "%s"}}\n' "${1-}" >"$TMPDIR/daemon.json"
}

# Until it knows all three GPUs.
start_daemon()
{
    mkdir -p "$RUNTIME_DIRECTORY"
    "$TRTCOLL_TEST_DAEMON" --config "$TMPDIR/daemon.json" >"$TMPDIR/log" 2>&1 &
    daemon_pid=$!
    for _ in {1..200}; do
        [[ $(grep -c 'notice: device [0-2]: Fake GPU' "$TMPDIR/log") == 3 ]] && return
        sleep 0.1
    done
    fail "the daemon does not find three GPUs: $(cat "$TMPDIR/log")"
}

explain() # arguments
{
    timeout 20 "$ctl" -r "$RUNTIME_DIRECTORY" explain "$@" >"$TMPDIR/out" 2>&1 || fail "explain $*: exit status $?: $(cat "$TMPDIR/out")"
}

has() { grep -qE -- "$2" "$TMPDIR/$1" || fail "no $2 in: $(cat "$TMPDIR/$1")"; }

# The built-in tables have times of two and of four GPUs.
configure
start_daemon
explain all-reduce 64x8192
has out '^time of a run on the direct lane$'
has out '^  oneshot +measured at 1 MiB: [0-9.]+ us$'
has out '^  twoshot +measured at 1 MiB: [0-9.]+ us$'
has out '^  by +the built-in tables \(.*\): the table for 2 ranks$'
explain all-reduce 100x8192 --ranks 4 --fusion residual-rms-norm
has out '^  twoshot +measured at 1 MiB: [0-9.]+ us, at 2 MiB: [0-9.]+ us$'
explain all-reduce 64x8192 --strategy mnnvl
has out '^  mnnvl +not measured$'
explain all-reduce 64x8192 --ranks 8
has out '^  not measured +the built-in tables .*: no times in the table for 8 ranks$'
explain all-gather 4096
grep -q 'time of a run' "$TMPDIR/out" && fail "times of what has one form: $(cat "$TMPDIR/out")"
stop_daemon

# What was measured here.
timeout 60 "$ctl" tune --ranks 2 --sizes 16K:64K --replays 1 "$TMPDIR/t.json" >"$TMPDIR/out" 2>&1 || fail "tune: $(tail -n 5 "$TMPDIR/out")"
configure "$TMPDIR/t.json"
start_daemon
explain all-reduce 4x8192
has out '^  oneshot +measured at 64 KiB: [0-9.]+ [um]s$'
has out '^  twoshot +measured at 64 KiB: [0-9.]+ [um]s$'
has out '^  by +.*t.json \(Fake GPU.*\): the table for 2 ranks$'
explain all-reduce 2x8192 --fusion residual-rms-norm --json
has out '"times_of": ".* with an epilogue"'
[[ $(grep -c '"us": ' "$TMPDIR/out") == 4 ]] || fail "not two sizes of two strategies: $(cat "$TMPDIR/out")"
explain all-reduce 4x8192 --ranks 3
has out '^  not measured +.*t.json .*: no table for 3 ranks$'
stop_daemon

# What was measured on another GPU, as a reload and as a start find it. One notice for all devices; the tables are in effect.
configure
start_daemon
printf '{"version": 1, "gpu": "Other GPU", "tables": [{"ranks": 2, "steps": [{"max_bytes": null, "strategy": "twoshot"}]}]}\n' \
    >"$TMPDIR/t.json"
configure "$TMPDIR/t.json"
timeout 20 "$ctl" -r "$RUNTIME_DIRECTORY" reload >"$TMPDIR/out" 2>&1 || fail "reload: $(cat "$TMPDIR/out")"
notice='notice: choosing.tuning: .*/t.json was measured on Other GPU, device 0 is Fake GPU 0; its tables are in effect all the same'
[[ $(grep -cE "$notice" "$TMPDIR/log") == 1 ]] || fail "not one notice after a reload: $(cat "$TMPDIR/log")"
explain all-reduce 4x8192 --json
has out '"why": ".*table for 2 ranks of .*t.json \(Other GPU\), but device 0 is Fake GPU 0"'
has out '"strategy": "twoshot"'
explain all-reduce 4x8192 --strategy oneshot
grep -q 'but device' "$TMPDIR/out" && fail "a strategy that was asked for is not the table's: $(cat "$TMPDIR/out")"
sed -i 's/"gpu": "Other GPU", //' "$TMPDIR/t.json"
timeout 20 "$ctl" -r "$RUNTIME_DIRECTORY" reload >"$TMPDIR/out" 2>&1 || fail "reload: $(cat "$TMPDIR/out")"
has out '/choosing/tuning'
explain all-reduce 4x8192
grep -q 'but device' "$TMPDIR/out" && fail "nobody knows what it was measured on: $(cat "$TMPDIR/out")"
stop_daemon
[[ $(grep -c 'was measured on' "$TMPDIR/log") == 1 ]] || fail "more than one notice: $(cat "$TMPDIR/log")"
sed -i 's/"version": 1,/& "gpu": "Other GPU",/' "$TMPDIR/t.json"
start_daemon
stop_daemon
[[ $(grep -cE 'was measured on Other GPU, device [0-2] is Fake GPU [0-2];' "$TMPDIR/log") == 1 ]] ||
    fail "not one notice after a start: $(cat "$TMPDIR/log")"

# trtcoll-bench measures with such a file, wherever it is called from: strategies are the file's at every size, where those of the built-in
# tables are others.
strategies() # arguments: prints "bytes strategy" lines
{
    timeout 60 "$TRTCOLL_TEST_BUILD/client/trtcoll-bench" --device cuda --daemon "$TRTCOLL_TEST_DAEMON" --only direct --sizes 16K:64K \
        --replays 1 --json "$@" >"$TMPDIR/out" 2>"$TMPDIR/err" || fail "trtcoll-bench $*: exit status $?: $(tail -n 5 "$TMPDIR/err")"
    sed -nE 's/.*"bytes": ([0-9]+), "strategy": "([a-z-]+)".*/\1 \2/p' "$TMPDIR/out" | tr '\n' ' '
}

cd "$TMPDIR" || exit 1
printf '{"version": 1, "tables": [{"ranks": 2, "steps": [%s, %s]}]}\n' '{"max_bytes": 16384, "strategy": "twoshot"}' \
    '{"max_bytes": null, "strategy": "oneshot", "blocks": 3}' >bench.json
expect_strategies() # wanted, arguments
{
    local wanted=$1 found
    shift
    found=$(strategies "$@")
    [[ $found == "$wanted" ]] || fail "trtcoll-bench $*: found \"$found\", wanted \"$wanted\""
}
expect_strategies "16384 oneshot 65536 oneshot "
expect_strategies "16384 twoshot 65536 oneshot " --tuning bench.json

refused() # exit status, words, arguments
{
    local wanted=$1 words=$2
    shift 2
    timeout 60 "$TRTCOLL_TEST_BUILD/client/trtcoll-bench" --daemon "$TRTCOLL_TEST_DAEMON" "$@" >"$TMPDIR/out" 2>"$TMPDIR/err"
    local status=$?
    [[ $status == "$wanted" ]] || fail "trtcoll-bench $*: exit status $status, wanted $wanted: $(cat "$TMPDIR/err")"
    has err "$words"
}
refused 1 'nowhere.json: No such file' --device cuda --tuning nowhere.json
refused 2 'go with --device cuda' --tuning bench.json
refused 2 'do not go with --tune' --device cuda --tuning bench.json --tune other.json
echo '{"version": 2, "tables": []}' >bench.json
refused 1 '/version: found 2' --device cuda --only direct --sizes 16K:16K --tuning bench.json

[[ $failures == 0 ]] || exit 1
echo "PASSED"
