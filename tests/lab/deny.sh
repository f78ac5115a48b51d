#!/usr/bin/env bash
# Licences, sources and bans of all dependencies, the fuzzer's too; with ADVISORIES=1 also the advisory database, which needs the open network.
set -euo pipefail

# Unoptimized: it runs for a second, and an optimized build of it takes longer than all our own.
command -v cargo-deny >/dev/null || cargo install --locked --quiet --debug cargo-deny
if [ "${ADVISORIES:-0}" = 1 ]; then
	cargo deny check
else
	cargo deny check bans licenses sources
	cargo deny --manifest-path tests/fuzz/Cargo.toml check bans licenses sources
	echo "advisories: not checked here (ADVISORIES=1 checks them)"
fi
