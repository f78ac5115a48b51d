#!/bin/sh
# Fetches what the kernel tests boot: a User Mode Linux kernel (Debian forky) and Docker 20.10.24 with its tools
# (Debian bookworm). Nothing is installed: packages are downloaded and verified by apt with private lists, and unpacked
# into $AUFS2DM_LAB (default: .lab in the repository). Needs apt, dpkg-deb and the Debian archive keyring, no root.
# A lab that is complete is left alone; a new one appears by one rename, so a half-fetched one is never used.
set -eu

FORMAT=4 # what a lab contains; raised with the package lists, so that older labs are fetched again
KERNEL_PACKAGES="user-mode-linux libc6"
DOCKER_PACKAGES="docker.io containerd runc tini busybox-static dmsetup libdevmapper1.02.1 libsystemd0 libseccomp2
    libapparmor1 libselinux1 libudev1 libpcre2-8-0 libzstd1 liblzma5 liblz4-1 libgcrypt20 libgpg-error0 libcap2
    util-linux libblkid1 libuuid1 libmount1 libsmartcols1 e2fsprogs libext2fs2 libcom-err2 libss2
    xfsprogs libinih1 liburcu8 libedit2 libbsd0 libmd0 libtinfo6 udev libkmod2 libacl1
    lvm2 libdevmapper-event1.02.1 thin-provisioning-tools libaio1 libexpat1 libstdc++6 libgcc-s1 zstd xz-utils zlib1g patchelf"
MODULES="dm-mod dm-bio-prison dm-bufio dm-persistent-data dm-thin-pool dm-flakey dm-log-writes loop overlay"
PROGRAMS="dockerd docker containerd containerd-shim-runc-v2 runc docker-init busybox dmsetup blkid e2fsck resize2fs
    mkfs.ext4 mkfs.xfs xfs_repair udevadm lvm thin_check thin_dump zstd xz"
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

say() { printf 'lab: %s\n' "$*"; }
die() { printf 'lab: %s\n' "$*" >&2; exit 1; }

repository=$(cd "$(dirname "$0")/../.." && pwd)
lab=$(realpath -m "${AUFS2DM_LAB:-$repository/.lab}")
# The kernel's interpreter is an absolute path, so a lab that was moved is not complete either.
stamp="aufs2dm lab, format $FORMAT, at $lab"

if [ -e "$lab" ]; then
    if [ "$(head -n 1 "$lab/LAB" 2>/dev/null || true)" = "$stamp" ]; then
        say "$lab is complete"
        exit 0
    fi
    [ -e "$lab/LAB" ] || [ -z "$(ls -A "$lab")" ] || die "$lab exists and is no lab: remove it or set AUFS2DM_LAB"
fi
[ "$(dpkg --print-architecture)" = amd64 ] || die "only amd64 has a User Mode Linux package"
[ -r "$KEYRING" ] || die "$KEYRING is missing: install debian-archive-keyring"

mkdir -p "$(dirname "$lab")"
work=$(mktemp -d "$lab.new.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial" "$work/debs" "$work/out/kernel/modules" \
    "$work/out/kernel/libc" "$work/out/docker"

# apt itself reads the machine's configuration (one-line and deb822 sources, proxies, credentials) and says where
# bookworm comes from; forky is taken from the same mirror.
mirror=$(apt-get --print-uris update 2>/dev/null | sed -n "s|^'\(.*\)/dists/bookworm/InRelease'.*|\1|p" | head -n 1)
[ -n "$mirror" ] || die "apt has no source for the suite bookworm (apt-get --print-uris update shows none)"
(
    umask 077 # a mirror's address may hold a password
    for suite in bookworm forky; do
        printf 'deb [signed-by=%s] %s %s main\n' "$KEYRING" "$mirror" "$suite"
    done >"$work/apt/sources.list"
)

private_apt() {
    # The sandbox user could not enter a directory of mktemp; the machine's pins must not pick other versions.
    apt-get -q -o Dir::State="$work/apt" -o Dir::State::lists="$work/apt/lists" -o Dir::Cache="$work/apt" \
        -o Dir::Cache::archives="$work/apt/archives" -o Dir::Etc::SourceList="$work/apt/sources.list" \
        -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
        -o APT::Sandbox::User= -o Acquire::Languages=none -o Acquire::Retries=3 -o Debug::NoLocking=1 "$@"
}

say "reading the package lists of bookworm and forky"
private_apt -o APT::Update::Error-Mode=any update >"$work/apt/log" 2>&1 ||
    { sed 's|//[^/ ]*@|//|' "$work/apt/log" >&2; die "apt cannot reach the mirror, or its signature is not valid (above)"; }

# download SUITE PACKAGES...: the suite's packages, verified by apt, into debs/SUITE.
download() {
    suite=$1
    shift
    mkdir "$work/debs/$suite"
    say "downloading from $suite:" "$@"
    # shellcheck disable=SC2046 # package names are words
    (cd "$work/debs/$suite" && private_apt download $(printf "%s/$suite " "$@")) >"$work/apt/log" 2>&1 ||
        { sed 's|//[^/ ]*@|//|' "$work/apt/log" >&2; die "apt could not download from $suite (above)"; }
}
# shellcheck disable=SC2086 # lists of words
{
    download forky $KERNEL_PACKAGES
    download bookworm $DOCKER_PACKAGES
}

say "unpacking"
for deb in "$work"/debs/forky/*.deb; do dpkg-deb -x "$deb" "$work/forky"; done
for deb in "$work"/debs/bookworm/*.deb; do dpkg-deb -x "$deb" "$work/out/docker"; done
# One directory each, so that a search path is one entry.
tree=$work/out/docker
mkdir "$work/out/bin" "$work/out/lib"
for dir in bin sbin usr/bin usr/sbin; do
    [ -d "$tree/$dir" ] && cp -a --remove-destination "$tree/$dir/." "$work/out/bin/"
done
for dir in lib/x86_64-linux-gnu usr/lib/x86_64-linux-gnu; do
    [ -d "$tree/$dir" ] && find "$tree/$dir" -maxdepth 1 \( -type f -o -type l \) -exec cp -a --remove-destination -t "$work/out/lib" {} +
done
mkdir -p "$work/out/udev"
cp -a "$tree/lib/udev/rules.d" "$work/out/udev/"
[ -f "$work/out/udev/rules.d/95-dm-notify.rules" ] || die "the packages no longer have device-mapper's udev rules"
rm -rf "$tree"

for module in $MODULES; do
    file=$(find "$work/forky" -name "$module.ko")
    [ -n "$file" ] || die "user-mode-linux no longer has the module $module"
    cp "$file" "$work/out/kernel/modules/"
done

# The kernel wants a newer glibc than bookworm's, and re-executes itself: it gets its own by interpreter and rpath.
cp -L "$work"/forky/usr/lib/x86_64-linux-gnu/*.so* "$work/out/kernel/libc/"
cp "$(find "$work/forky" -name linux.uml -type f)" "$work/out/kernel/linux.uml"
LD_LIBRARY_PATH="$work/out/lib" "$work/out/bin/patchelf" --set-interpreter "$lab/kernel/libc/ld-linux-x86-64.so.2" \
    --set-rpath "$lab/kernel/libc" "$work/out/kernel/linux.uml"

for program in $PROGRAMS; do
    [ -x "$work/out/bin/$program" ] || die "the packages no longer have $program"
    if LD_LIBRARY_PATH="$work/out/lib" ldd "$work/out/bin/$program" 2>/dev/null | grep 'not found'; then
        die "$program lacks these libraries: add their package to the list"
    fi
done
"$work/out/kernel/libc/ld-linux-x86-64.so.2" --library-path "$work/out/kernel/libc" --list \
    "$work/out/kernel/linux.uml" >/dev/null || die "linux.uml needs a library that libc6 does not have"

{
    echo "$stamp"
    for deb in "$work"/debs/*/*.deb; do basename "$deb" .deb; done
} >"$work/out/LAB"
if [ -e "$lab" ]; then mv "$lab" "$work/old"; fi
mv "$work/out" "$lab"
say "$lab is complete"
