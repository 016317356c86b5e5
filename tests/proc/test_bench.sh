#!/bin/bash
# trtcoll-bench measures what it says, with a daemon of its own: the JSON is complete, a soak loses nothing, usage errors exit with 2, no
# daemon with 3, and nothing is left behind. Says nothing about speed.
set -u
bench=$TRTCOLL_TEST_BUILD/client/trtcoll-bench
failures=0

TMPDIR=$(mktemp -d) || exit 1
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

fail()
{
    echo "FAILED: $*"
    failures=$((failures + 1))
}

exits() # wanted status, arguments
{
    local wanted=$1
    shift
    "$bench" "$@" >"$TMPDIR/out" 2>"$TMPDIR/err"
    local status=$?
    [[ $status == "$wanted" ]] || fail "trtcoll-bench $*: exit status $status, wanted $wanted: $(tail -n 5 "$TMPDIR/err")"
}

has() { grep -qE -- "$1" "$TMPDIR/out" || fail "no $1 in: $(head -c 3000 "$TMPDIR/out")"; }

exits 2 --ranks 1
exits 2 --sizes 9:10
exits 2 --lane both-of-them
exits 2 surplus
exits 2 --device tpu
exits 2 --only direct
exits 2 --save "$TMPDIR/file"
if [[ ! -d $TRTCOLL_TEST_BUILD/tests/fake_cuda ]]; then
    exits 2 --device cuda
    grep -q 'built without CUDA' "$TMPDIR/err" || fail "--device cuda without CUDA: $(cat "$TMPDIR/err")"
fi
exits 3 --socket "$TMPDIR/nobody.sock"
exits 3 --daemon "$TMPDIR/nothing"

exits 0 --quick --sizes 8:64K --ranks 3 --idle 0.2 --json
has '"schema_version": 1'
has '"ring_round_trip": \{"samples": [1-9]'
has '"executors": 3, "clients": 3'
[[ $(grep -cE '"bytes": [0-9]+, "direct": \{"us": [0-9.]+, .*"served": \{"us": [0-9.]+' "$TMPDIR/out") == 14 ]] ||
    fail "not 14 sizes with both lanes: $(head -c 3000 "$TMPDIR/out")"

exits 0 --quick --sizes 8:32 --dtype bf16 --lane direct --idle 0
has '8 B \| +[0-9]+\.[0-9]+ '

exits 0 --soak 1 --ranks 4 --rate 200 --json
for lane in direct served; do
    has "\"soak_$lane\": .*\"submitted\": 800, \"completed\": 800, \"lost\": 0, \"failed\": 0, \"wrong\": 0"
done

# An interrupt, in the middle of a measurement: ends in order.
"$bench" --lane direct --no-mpi --sizes 8:8 --rounds 25 --budget-ms 10000 >"$TMPDIR/out" 2>&1 &
pid=$!
until compgen -G "$TMPDIR/trtcoll-bench.*/trtcolld.sock" >/dev/null || ! kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
kill -TERM "$pid"
wait "$pid"
status=$?
[[ $status == 1 ]] || fail "interrupted: exit status $status, wanted 1: $(cat "$TMPDIR/out")"

rm -f "$TMPDIR/out" "$TMPDIR/err"
[[ -z $(ls -A "$TMPDIR") ]] || fail "left behind: $(ls -A "$TMPDIR")"

[[ $failures == 0 ]] || exit 1
echo "PASSED"
