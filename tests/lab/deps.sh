#!/usr/bin/env bash
# Installs what a Debian machine lacks: `deps.sh build` for building aufs2dm, `deps.sh test` for its demo and tests.
# `deps.sh --missing build` only names the packages. Does nothing when all is there.
set -euo pipefail

only_name=
if [ "${1:-}" = --missing ]; then
	only_name=yes
	shift
fi

missing=()
need() { # need PACKAGE TEST...: the package is missing unless the test succeeds
	local package=$1
	shift
	"$@" >/dev/null 2>&1 || missing+=("$package")
}
have() { command -v "$1" || [ -x "/sbin/$1" ] || [ -x "/usr/sbin/$1" ]; }
installed() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

case ${1:?build or test} in
build) # a linker, and for the devicemapper crate its C library and clang's
	need build-essential have cc
	need pkg-config have pkg-config
	need libclang-dev installed libclang-dev
	need libdevmapper-dev installed libdevmapper-dev
	;;
test) # the file systems' and the pool's own checkers, the fixtures' archivers, the lab's tools
	need e2fsprogs have e2fsck
	need btrfs-progs have mkfs.btrfs
	need xfsprogs have mkfs.xfs
	need thin-provisioning-tools have thin_check
	need xz-utils have xz
	need zstd have zstd
	need tar have tar
	need dmsetup have dmsetup
	need mount have losetup
	need patchelf have patchelf
	need busybox-static installed busybox-static
	;;
*)
	echo "deps.sh: build or test, not $1" >&2
	exit 2
	;;
esac

if [ -n "$only_name" ]; then
	echo "${missing[*]}"
	exit 0
fi
[ ${#missing[@]} -eq 0 ] && exit 0
echo "installing: ${missing[*]}" >&2
as_root=()
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null || { echo "run as root, or install first: apt-get install ${missing[*]}" >&2; exit 1; }
	as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
