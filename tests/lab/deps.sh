#!/usr/bin/env bash
# Installs what a Debian machine lacks for building and testing aufs2dm. Does nothing when all is there.
set -euo pipefail

missing=()
need() { # need PACKAGE TEST...: the package is missing unless the test succeeds
	local package=$1
	shift
	"$@" >/dev/null 2>&1 || missing+=("$package")
}
have() { command -v "$1" || [ -x "/sbin/$1" ] || [ -x "/usr/sbin/$1" ]; }
installed() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

# To build: a linker, and for the devicemapper crate its C library and clang's.
need build-essential have cc
need pkg-config have pkg-config
need libclang-dev installed libclang-dev
need libdevmapper-dev installed libdevmapper-dev
# To test: the file systems' and the pool's own checkers, the fixtures' archivers, the lab's tools.
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

[ ${#missing[@]} -eq 0 ] && exit 0
echo "installing: ${missing[*]}" >&2
as_root=()
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null || { echo "run as root, or install first: apt-get install ${missing[*]}" >&2; exit 1; }
	as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
