#!/usr/bin/env bash
# Runs all tests in two lanes side by side: the lab, whose guests wait for their disks much of the time, and everything else. They share
# nothing. `make test` brings what they need and has built them.
set -uo pipefail
cd "$(dirname "$0")/../.."

cargo=${CARGO:-cargo}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

"$cargo" test --locked --features kernel-tests --test kernel >"$log" 2>&1 &
lab=$!
trap 'kill "$lab" 2>/dev/null; rm -f "$log"' INT TERM

failed=0
"$cargo" test --locked --features kernel-tests --no-fail-fast --lib --bins --test cli --test library --test faults || failed=1
"$cargo" test --locked --features kernel-tests --doc || failed=1
echo "waiting for the lab, which began with the other tests"
wait "$lab" || failed=1
cat "$log"
exit "$failed"
