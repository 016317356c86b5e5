#!/bin/bash
# trtcoll-bench --device cuda: every part runs to its end with right results, on two and on three GPUs; the JSON is complete; a part that
# fails is reported and the others are measured; too few GPUs are refused; nothing is left behind. Says nothing about speed.
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
    timeout 100 "$bench" --device cuda "$@" >"$TMPDIR/out" 2>"$TMPDIR/err"
    local status=$?
    [[ $status == "$wanted" ]] || fail "trtcoll-bench $*: exit status $status, wanted $wanted: $(tail -n 5 "$TMPDIR/err")"
}

has() { grep -qE -- "$2" "$TMPDIR/$1" || fail "no $2 in: $(head -c 3000 "$TMPDIR/$1")"; }

exits 0 --sizes 16K:64K --replays 2 --only direct,norm,fp8,served,served-nccl --save "$TMPDIR/json"
for part in direct norm fp8 served served-nccl; do
    has json "\"$part\": \{\"complete\": true, \"note\": \"\", \"host_mean_us\": [0-9.]+, \"host_p99_us\": [0-9.]+, \"nccl_host_mean_us\": [0-9.]+, \"launch_mean_us\": [0-9.]+"
done
[[ $(grep -cE '"bytes": (16384|65536), "strategy": "[a-z-]+", "us": [0-9.]+, "nccl_us": [0-9.]+, "ratio": [0-9.]+' "$TMPDIR/json") == 10 ]] ||
    fail "not two sizes in each of five parts: $(cat "$TMPDIR/json")"
[[ $(grep -cE '"computing_us": [0-9.]+, "nccl_computing_us": [0-9.]+' "$TMPDIR/json") == 4 ]] || fail "served lanes: $(cat "$TMPDIR/json")"
has json '"bytes": 65536, "strategy": "nccl"'
has json '"mps": false'
has out '^ +16 KB '

# Tables for 2 GPUs and for all 3, which a daemon takes; progress; nothing else is left in the directory.
mkdir "$TMPDIR/tables"
TRTCOLL_FAKE_GPUS=3 timeout 100 "$TRTCOLL_TEST_BUILD/client/trtcollctl" tune --sizes 16K:64K --replays 1 "$TMPDIR/tables/t.json" \
    >"$TMPDIR/out" 2>"$TMPDIR/err" || fail "trtcollctl tune: exit status $?: $(tail -n 5 "$TMPDIR/err")"
[[ $(grep -cE '"ranks": [23], "fused": (true|false)' "$TMPDIR/tables/t.json") == 4 ]] || fail "tables: $(cat "$TMPDIR/tables/t.json")"
has err 'turn 13 of 13: twoshot, 264 blocks'
has out '^ +64 KB \| oneshot +[0-9.]+ \| (one|two)shot +[0-9.]+ +(own|[0-9]+)$'
[[ $(ls "$TMPDIR/tables") == t.json ]] || fail "left behind: $(ls "$TMPDIR/tables")"
printf '{"devices": {"host": 2}, "choosing": {"tuning": "%s"}}\n' "$TMPDIR/tables/t.json" >"$TMPDIR/daemon.json"
"$TRTCOLL_TEST_BUILD/daemon/trtcolld" --check-config "$TMPDIR/daemon.json" >"$TMPDIR/out" 2>&1 || fail "refused: $(cat "$TMPDIR/out")"
exits 1 --tune "$TMPDIR/nowhere/t.json" --ranks 2
has err 'nowhere/t.json: No such file'
TRTCOLL_FAKE_GPUS=1 exits 1 --tune "$TMPDIR/t.json"
has err '2 ranks need as many GPUs, and there is 1'
exits 2 --tune "$TMPDIR/t.json" --only norm
rm -r "$TMPDIR/tables" "$TMPDIR/daemon.json"

exits 0 --only restart,memory --ranks 3 --json
has out '"restart": \{"complete": true, "note": "", "open_gpu_ms": [0-9.]+, "nccl_ms": [0-9.]+, "direct": .*"restarted_ms": [0-9.]+'
has out '"served": .*"restarted_ms": [0-9.]+'
has out '"trtcollctl": ".*by group'

exits 1 --ranks 5
has err '5 ranks need as many GPUs, and there are 4'
exits 1 --daemon /bin/false --only direct,memory --sizes 16K:16K --json
has out '"direct": \{"complete": false, "note": "the daemon did not start"'
has out '"memory": \{"complete": false, "note": "the daemon did not start"'
has out '"executor_bytes": null, "first_engine_bytes": null' # not measured is not nothing

exits 2 --only walk
exits 2 --only norm --sizes 64M:256M
has err 'none of those that part norm measures: 16K 64K .* 8M 32M;'
exits 2 --replays 0
exits 2 --socket "$TMPDIR/nobody.sock"
exits 2 --soak 1

rm -f "$TMPDIR/out" "$TMPDIR/err" "$TMPDIR/json"
[[ -z $(ls -A "$TMPDIR") ]] || fail "left behind: $(ls -A "$TMPDIR")"

[[ $failures == 0 ]] || exit 1
echo "PASSED"
