#!/usr/bin/env bash
# The main job on the bundled root, before one's eyes: what is there, the conversion, what came out of it, and a command in a
# converted image under a real Docker. Needs the release binary and the lab; `make demo` brings both.
set -euo pipefail
cd "$(dirname "$0")/../.."

[ "$(id -u)" -eq 0 ] || { echo "run as root: the bundled root has owners and devices, and aufs2dm reads every file" >&2; exit 1; }
tool=$PWD/target/release/aufs2dm
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/docker

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

say "A Docker root as Docker 20.10 with the aufs driver left it"
tar --xattrs --xattrs-include='*' --numeric-owner -xpf fixtures/small.tar.xz -C "$work"
run "$tool" inspect --root "$root"

say "The conversion"
run "$tool" convert --root "$root" --pidfile "$work/docker.pid"

say "What came out"
run ls "$root"
run cat "$root/devicemapper/metadata/deviceset-metadata"
echo
run thin_check "$root/devicemapper/devicemapper/metadata"
run du -h --apparent-size "$root/devicemapper/devicemapper/data"
run du -h "$root/devicemapper/devicemapper/data"

say "Docker 20.10 with devicemapper on the converted root, in the lab's kernel"
tar --sparse --xattrs --xattrs-include='*' --numeric-owner -cpf "$work/converted.tar" -C "$work" docker
cat >"$work/guest.sh" <<'GUEST'
set -eu
tar --xattrs --xattrs-include='*' --numeric-owner -xpf "$1"
dockerd --data-root "$PWD/docker" --storage-driver devicemapper --storage-opt dm.override_udev_sync_check=true \
	--bridge=none --iptables=false --ip6tables=false >dockerd.log 2>&1 &
daemon=$!
for _ in $(seq 60); do docker info >/dev/null 2>&1 && break; sleep 1; done
docker info --format 'driver {{.Driver}}, {{.Images}} images, {{.Containers}} containers' || { tail dockerd.log; exit 1; }
run() { printf '$ %s\n' "$*"; "$@"; }
run docker images
run docker ps -a --format 'table {{.Names}}\t{{.Image}}\t{{.Status}}'
run docker run --rm --net=none lab/app:2 /bin/sh -c 'echo "hello from $(hostname), a container on devicemapper"; ls -l /opt/hl; df -h /'
run docker diff live
kill $daemon
wait $daemon || true
GUEST
cargo test --quiet --locked --features kernel-tests --test kernel -- --shell "sh $work/guest.sh $work/converted.tar"
