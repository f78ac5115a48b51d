#!/usr/bin/env bash
# Looks whether this machine can build (`machine.sh build`), run the demo (`demo`) or run the tests (`test`), before anything is
# installed or compiled. Names everything that is missing at once, with the command that brings it.
set -euo pipefail
cd "$(dirname "$0")/../.."
purpose=${1:?build, demo or test}

missing=()
lack() { missing+=("$*"); }

wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
found=$(cargo --version 2>/dev/null | awk '{ print $2 }' || true)
rustup="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . ~/.cargo/env"
if [ -z "$found" ]; then
	lack "cargo is missing, Rust $wanted or later is needed: $rustup"
elif [ "$(printf '%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1)" != "$wanted" ]; then
	lack "cargo is $found, Rust $wanted or later is needed (Debian 12 has 1.63): $rustup"
fi

# What the scripts that follow would install.
packages=$(tests/lab/deps.sh --missing build)
if [ "$purpose" != build ]; then
	packages+=" $(tests/lab/deps.sh --missing test)"
	[ "$(uname -m)" = x86_64 ] || lack "this is $(uname -m): the lab's kernel and Docker are there for x86_64 alone; \`make build\` builds the tool"
	[ -r /usr/share/keyrings/debian-archive-keyring.gpg ] || lack "debian-archive-keyring is missing: apt-get install debian-archive-keyring"
	[ "$(id -u)" -eq 0 ] || lack "run as root: roots have owners and devices, and aufs2dm reads every file"
fi
if [ -n "${packages// /}" ]; then
	if ! command -v apt-get >/dev/null; then
		lack "apt-get is missing; this machine needs what Debian calls:$packages"
	elif [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
		lack "neither root nor sudo: as root, apt-get install$packages"
	fi
fi

# target/ and, for all but the build, .lab/.
case $purpose in
build) megabytes=700 ;;
demo) megabytes=1200 ;;
*) megabytes=4000 ;;
esac
free=$(df --output=avail -m . | tail -n 1)
[ -e target ] || [ "$free" -ge "$megabytes" ] || lack "$((free)) MB are free here, about $megabytes MB are needed"

[ ${#missing[@]} -eq 0 ] && exit 0
for what in "${missing[@]}"; do echo "make $purpose: $what" >&2; done
exit 1
