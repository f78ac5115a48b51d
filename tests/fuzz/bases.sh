#!/usr/bin/env bash
# Makes bases/: the ext4 file systems whose bytes the target `ext4` changes, beside those that our own writer makes. Each is what
# mke2fs makes of one small tree with other features, compressed. Needs e2fsprogs, gzip and root (owners, device nodes, xattrs).
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export E2FSPROGS_FAKE_TIME=1600000000

mkdir -p "$work/tree/large" "$work/tree/deep/er"
echo hello >"$work/tree/file"
ln "$work/tree/file" "$work/tree/deep/link"
ln -s file "$work/tree/short"
ln -s "$(printf 'x%.0s' {1..200})" "$work/tree/long"
mknod "$work/tree/device" c 300 70000
mkfifo "$work/tree/pipe"
for at in 0 64 200 400; do # a file with holes
	printf 'data' | dd of="$work/tree/holes" bs=1024 seek=$at conv=notrunc status=none
done
for at in {1..60}; do : >"$work/tree/large/a-name-of-some-length-to-fill-blocks-$at"; done
find "$work/tree" -exec touch -h -d @1600000000 {} +

make() { # make NAME KIB OPTION...
	local name=$1 kib=$2
	shift 2
	mke2fs -q -q -F -U 01234567-89ab-cdef-0123-456789abcdef -E hash_seed=01234567-89ab-cdef-0123-456789abcdef,root_owner=0:0 \
		-d "$work/tree" "$@" "$work/image" "$kib" >/dev/null
	debugfs -w "$work/image" -f <(
		echo 'ea_set /file security.capability capability'
		printf 'ea_set /%s user.large %s\n' deep "$(printf 'v%.0s' {1..300})" file "$(printf 'v%.0s' {1..300})"
	) 2>/dev/null >/dev/null
	e2fsck -fyD "$work/image" >/dev/null || [ $? -eq 1 ]
	gzip -9 -n <"$work/image" >"bases/$name.gz"
	rm "$work/image"
}
make block-maps 2048 -b 1024 -I 128 -N 96 -O none,filetype,dir_index,resize_inode,sparse_super,ext_attr
make no-checksums 2048 -b 1024 -I 256 -N 96 -O none,filetype,dir_index,extent,sparse_super,ext_attr,flex_bg,extra_isize,large_file
make all-checksums 4096 -b 1024 -I 256 -N 96 -O none,has_journal,filetype,dir_index,extent,sparse_super,ext_attr,flex_bg,extra_isize,64bit,metadata_csum,huge_file,dir_nlink -J size=1
