//! On-disk layout of thin-pool metadata: structures and limits, nothing else.
//!
//! All integers are little-endian. A metadata block is 4096 bytes, and each begins with its checksum and holds its own
//! number at byte 8. Source throughout: linux v6.6 `drivers/md/dm-thin-metadata.c` and `drivers/md/persistent-data/`.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes in a metadata block.
pub(super) const BLOCK_SIZE: usize = 4096;

/// A metadata block.
pub(super) type Block = [u8; BLOCK_SIZE];

/// First number of a superblock. Source: `THIN_SUPERBLOCK_MAGIC`.
pub(super) const MAGIC: u64 = 27_022_010;

/// Version since Linux 3.14. Source: `THIN_VERSION`.
pub(super) const VERSION: u32 = 2;

/// Superblock flag that keeps a pool read-only until it was repaired. Source: `THIN_METADATA_NEEDS_CHECK_FLAG`.
pub(super) const NEEDS_CHECK: u32 = 1;

/// Sectors in a metadata block, as the superblock states it.
pub(super) const METADATA_BLOCK_SECTORS: u32 = 8;

/// Node flag of a node whose values are child blocks. Source: `INTERNAL_NODE`.
pub(super) const INTERNAL_NODE: u32 = 1;

/// Node flag of a node that holds a tree's values. Source: `LEAF_NODE`.
pub(super) const LEAF_NODE: u32 = 2;

/// Reference counts in one bitmap block, two bits each.
pub(super) const COUNTS_PER_BITMAP: usize = (BLOCK_SIZE - size_of::<BlockHeader>()) * 4;

/// Index entries in the metadata space map's one index block. Source: `MAX_METADATA_BITMAPS`.
pub(super) const MAX_METADATA_BITMAPS: usize = 255;

/// Bits of a mapping's value that hold its time; the data block's number is above them.
pub(super) const TIME_BITS: u32 = 24;

/// Data block numbers are below this: 40 bits of a mapping's value.
pub(super) const MAX_DATA_BLOCKS: u64 = 1 << 40;

/// Smallest data block in sectors, and the step of its sizes. Source: `DATA_DEV_BLOCK_SIZE_MIN_SECTORS`.
pub(super) const DATA_BLOCK_SIZE_STEP: u64 = 128;

/// Largest data block in sectors. Source: `DATA_DEV_BLOCK_SIZE_MAX_SECTORS`.
pub(super) const MAX_DATA_BLOCK_SIZE: u64 = 2_097_152;

/// The superblock, block 0. Source: `struct thin_disk_superblock`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawSuperblock {
    pub(super) csum: U32,    // 000
    pub(super) flags: U32,   // 004
    pub(super) blocknr: U64, // 008

    pub(super) uuid: [u8; 16], // 010

    pub(super) magic: U64,   // 020
    pub(super) version: U32, // 028
    pub(super) time: U32,    // 02c

    pub(super) trans_id: U64,  // 030
    pub(super) held_root: U64, // 038

    pub(super) data_space_map_root: RawSpaceMapRoot, // 040
    pub(super) data_space_map_rest: [u8; 96],        // 060

    pub(super) metadata_space_map_root: RawSpaceMapRoot, // 0c0
    pub(super) metadata_space_map_rest: [u8; 96],        // 0e0

    pub(super) data_mapping_root: U64,   // 140
    pub(super) device_details_root: U64, // 148

    pub(super) data_block_size: U32,     // 150
    pub(super) metadata_block_size: U32, // 154
    pub(super) metadata_nr_blocks: U64,  // 158

    pub(super) compat_flags: U32,    // 160
    pub(super) compat_ro_flags: U32, // 164
    pub(super) incompat_flags: U32,  // 168
}
const _: () = assert!(
    size_of::<RawSuperblock>() == 364
        && offset_of!(RawSuperblock, data_space_map_root) == 64
        && offset_of!(RawSuperblock, metadata_space_map_root) == 192
        && offset_of!(RawSuperblock, data_mapping_root) == 320
        && offset_of!(RawSuperblock, incompat_flags) == 360
);

/// Where a space map is and how much of it is in use. Source: `struct disk_sm_root`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawSpaceMapRoot {
    pub(super) nr_blocks: U64,    // 00
    pub(super) nr_allocated: U64, // 08

    pub(super) bitmap_root: U64,    // 10
    pub(super) ref_count_root: U64, // 18
}
const _: () = assert!(size_of::<RawSpaceMapRoot>() == 32);

/// Begin of a bitmap block and of the index block. Source: `struct disk_bitmap_header`, `struct disk_metadata_index`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct BlockHeader {
    pub(super) csum: U32,    // 00
    pub(super) unused: U32,  // 04
    pub(super) blocknr: U64, // 08
}
const _: () = assert!(size_of::<BlockHeader>() == 16 && COUNTS_PER_BITMAP == 16_320);

/// What a space map's index says of one bitmap. Source: `struct disk_index_entry`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawIndexEntry {
    pub(super) blocknr: U64,          // 00
    pub(super) nr_free: U32,          // 08
    pub(super) none_free_before: U32, // 0c
}
const _: () = assert!(
    size_of::<RawIndexEntry>() == 16
        && size_of::<BlockHeader>() + MAX_METADATA_BITMAPS * size_of::<RawIndexEntry>()
            == BLOCK_SIZE
);

/// Begin of a b-tree node; keys and then values follow. Source: `struct node_header`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawNodeHeader {
    pub(super) csum: U32,    // 00
    pub(super) flags: U32,   // 04
    pub(super) blocknr: U64, // 08

    pub(super) nr_entries: U32,  // 10
    pub(super) max_entries: U32, // 14
    pub(super) value_size: U32,  // 18
    pub(super) padding: U32,     // 1c
}
const _: () = assert!(size_of::<RawNodeHeader>() == 32 && offset_of!(RawNodeHeader, blocknr) == 8);

/// What the pool notes of a thin device. Source: `struct disk_device_details`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawDeviceDetails {
    pub(super) mapped_blocks: U64,  // 00
    pub(super) transaction_id: U64, // 08

    pub(super) creation_time: U32,    // 10
    pub(super) snapshotted_time: U32, // 14
}
const _: () = assert!(size_of::<RawDeviceDetails>() == 24);

/// A position in memory for a number known to be small: a slot of a block, or a place in a list that exists.
pub(super) fn index(n: u64) -> usize {
    usize::try_from(n).expect("an index into memory fits the address space")
}

/// Bitmap blocks for a device of this many blocks.
pub(super) const fn nr_bitmaps(nr_blocks: u64) -> u64 {
    nr_blocks.div_ceil(COUNTS_PER_BITMAP as u64)
}

/// Counts of a device of `nr_blocks` that the given bitmap holds.
pub(super) fn counts_in_bitmap(bitmap: u64, nr_blocks: u64) -> usize {
    let first = bitmap * COUNTS_PER_BITMAP as u64;
    let rest = usize::try_from(nr_blocks - first).unwrap_or(usize::MAX);
    rest.min(COUNTS_PER_BITMAP)
}
