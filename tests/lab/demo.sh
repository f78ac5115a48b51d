#!/usr/bin/env bash
# The main job on the bundled root, before one's eyes: what is there, the conversion, what came out of it, and a command in a
# converted image under a real Docker. Ends with a verdict: the images and containers before and after. `make demo` brings what it needs.
set -euo pipefail
cd "$(dirname "$0")/../.."

tool=$PWD/target/release/aufs2dm
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/docker

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

say "A Docker root as Docker 20.10 with the aufs driver left it"
tar --xattrs --xattrs-include='*' --numeric-owner -xpf fixtures/small.tar.xz -C "$work"
run "$tool" inspect --root "$root"
# One line for each image and container, as the aufs root has them.
"$tool" inspect --root "$root" --json | sed -n \
	-e 's/^ *"id": "\(sha256:[0-9a-f]*\)".*/image \1/p' -e 's/^ *"name": "\(.*\)".*/container \1/p' | sort -u >"$work/before"

say "The conversion"
run "$tool" convert --root "$root" --pidfile "$work/docker.pid"
run "$tool" verify --full --root "$root" --pidfile "$work/docker.pid"

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
docker images --all --quiet --no-trunc | sed 's/^/after: image /'
docker ps --all --format 'after: container {{.Names}}'
kill $daemon
wait $daemon || true
GUEST
cargo test --quiet --release --locked --features kernel-tests --test kernel -- --shell "sh $work/guest.sh $work/converted.tar" |
	tee "$work/guest.log" | grep -v '^after: '
sed -n 's/^after: \(.*[^\r]\)\r*$/\1/p' "$work/guest.log" | sort -u >"$work/after"

say "The verdict"
count() { grep -c "^$1 " "$work/$2"; }
if ! diff "$work/before" "$work/after"; then
	echo "FAIL: the images and containers that Docker shows (>) are not those of the aufs root (<)"
	exit 1
fi
echo "PASS: all $(count image before) images and $(count container before) containers of the aufs root are in Docker on devicemapper, under the same ids"
echo "      and names; every layer has the digest that Docker recorded, and a container ran."
