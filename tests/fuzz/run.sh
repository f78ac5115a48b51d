#!/usr/bin/env bash
# Fuzzes each target for so many seconds, two at a time: run.sh SECONDS [TARGET...]. With stable Rust and a C++ compiler.
#
# FUZZ_JOBS runs another number of them at a time; FUZZ_OPTIONS are libFuzzer's.
#
# What is new goes to target/fuzz/work/TARGET, from where the next run continues. An input that breaks a target goes to
# target/fuzz/found: put it into corpus/TARGET under a name that says what it found, and `cargo test --test library fuzz` fails until
# it is harmless.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:?seconds for each target}
shift
all=(daemon docker_json docker_root driver_files ext4 stage tar_split thin)
[ $# -gt 0 ] || set -- "${all[@]}"
out=$(cd ../.. && pwd)/target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')

# Coverage for libFuzzer, by a pass of LLVM that every rustc has. Only for the target: with --target, build scripts and macros are
# built without it.
pass=-Cpasses=sancov-module
for option in -level=4 -inline-8bit-counters -pc-table -trace-compares; do
	pass+=" -Cllvm-args=-sanitizer-coverage$option"
done
RUSTFLAGS="$pass --cfg fuzzing" cargo build --release --locked --target "$host" --target-dir "$out/build"

# The targets make small trees of files. In memory that is fast, and it leaves nothing behind.
memory=/dev/shm
[ -w "$memory" ] || memory=${TMPDIR:-/tmp}
TMPDIR=$(mktemp -d "$memory/aufs2dm-fuzz.XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

fuzz() { # fuzz TARGET
	local name=$1
	mkdir -p "$out/work/$name" "$out/found"
	if FUZZ_TARGET=$name "$out/build/$host/release/aufs2dm-fuzz" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=1024 \
		-max_len=8192 -print_final_stats=1 ${FUZZ_OPTIONS:-} -artifact_prefix="$out/found/$name-" \
		"$out/work/$name" "corpus/$name" >"$out/$name.log" 2>&1; then
		awk -v name="$name" '
			/ cov: / { for (at = 1; at < NF; at++) if ($at == "cov:") edges = $(at + 1) }
			/^stat::number_of_executed_units/ { runs = $2 }
			/^stat::peak_rss_mb/ { memory = $2 }
			END { printf "fuzz %-12s %9d runs, %5d edges, %4d MB, nothing found\n", name, runs, edges, memory }' "$out/$name.log"
	else
		grep -hE 'panicked at|^(SUMMARY|ERROR)|Test unit' -A2 "$out/$name.log" | head -20 >&2
		echo "fuzz $name: found something: $out/$name.log" >&2
		return 1
	fi
}
export -f fuzz
export out host seconds
printf '%s\n' "$@" | xargs -P "${FUZZ_JOBS:-2}" -I{} bash -c 'fuzz {}'
