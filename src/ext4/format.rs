//! On-disk structures, nothing but layout: little-endian, the journal's superblock big-endian.
//!
//! Source: linux v6.6 `fs/ext4/ext4.h`, `ext4_extents.h`, `xattr.h`, `namei.c`, `include/linux/jbd2.h`.

#![allow(clippy::struct_field_names)] // they are the kernel's

use std::mem::offset_of;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, big_endian};

/// Bytes of a file system block.
pub(super) const BLOCK: usize = 4096;
/// Blocks of a group: one bitmap block's bits.
pub(super) const BLOCKS_PER_GROUP: u32 = 32768;
/// Bytes of an inode.
pub(super) const INODE_BYTES: usize = 256;
/// Inodes in a block of the inode table.
pub(super) const INODES_PER_BLOCK: u32 = 16;
/// Bytes of a group descriptor without feature `64bit`.
pub(super) const DESC_BYTES: usize = 32;

/// `s_magic`.
pub(super) const SUPER_MAGIC: u16 = 0xef53;
/// `eh_magic`.
pub(super) const EXTENT_MAGIC: u16 = 0xf30a;
/// `h_magic` of attributes, in the inode and in a block.
pub(super) const XATTR_MAGIC: u32 = 0xea02_0000;
/// `h_magic` of the journal.
pub(super) const JOURNAL_MAGIC: u32 = 0xc03b_3998;

/// `ob_magic` at the end of the orphan file's blocks.
pub(super) const ORPHAN_MAGIC: u32 = 0x0b10_ca04;

/// Superblock, at byte 1024 and at the start of the groups that hold a copy. Source: `struct ext4_super_block`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct SuperBlock {
    pub(super) s_inodes_count: U32,      // 00
    pub(super) s_blocks_count_lo: U32,   // 04
    pub(super) s_r_blocks_count_lo: U32, // 08
    pub(super) s_free_blocks_count_lo: U32,

    pub(super) s_free_inodes_count: U32, // 10
    pub(super) s_first_data_block: U32,
    pub(super) s_log_block_size: U32,
    pub(super) s_log_cluster_size: U32,

    pub(super) s_blocks_per_group: U32, // 20
    pub(super) s_clusters_per_group: U32,
    pub(super) s_inodes_per_group: U32,
    pub(super) s_mtime: U32,

    pub(super) s_wtime: U32, // 30
    pub(super) s_mnt_count: U16,
    pub(super) s_max_mnt_count: U16,
    pub(super) s_magic: U16,
    pub(super) s_state: U16,
    pub(super) s_errors: U16,
    pub(super) s_minor_rev_level: U16,

    pub(super) s_lastcheck: U32, // 40
    pub(super) s_checkinterval: U32,
    pub(super) s_creator_os: U32,
    pub(super) s_rev_level: U32,

    pub(super) s_def_resuid: U16, // 50
    pub(super) s_def_resgid: U16,
    pub(super) s_first_ino: U32,
    pub(super) s_inode_size: U16,
    pub(super) s_block_group_nr: U16,
    pub(super) s_feature_compat: U32,

    pub(super) s_feature_incompat: U32, // 60
    pub(super) s_feature_ro_compat: U32,
    pub(super) s_uuid: [u8; 16],         // 68
    pub(super) s_volume_name: [u8; 16],  // 78
    pub(super) s_last_mounted: [u8; 64], // 88
    pub(super) s_algorithm_usage_bitmap: U32,
    pub(super) s_prealloc_blocks: u8,
    pub(super) s_prealloc_dir_blocks: u8,
    pub(super) s_reserved_gdt_blocks: U16,

    pub(super) s_journal_uuid: [u8; 16], // d0

    pub(super) s_journal_inum: U32, // e0
    pub(super) s_journal_dev: U32,
    pub(super) s_last_orphan: U32,
    pub(super) s_hash_seed: [U32; 4],
    pub(super) s_def_hash_version: u8,
    pub(super) s_jnl_backup_type: u8,
    pub(super) s_desc_size: U16,

    pub(super) s_default_mount_opts: U32, // 100
    pub(super) s_first_meta_bg: U32,
    pub(super) s_mkfs_time: U32,
    pub(super) s_jnl_blocks: [U32; 17],

    pub(super) s_blocks_count_hi: U32, // 150
    pub(super) s_r_blocks_count_hi: U32,
    pub(super) s_free_blocks_count_hi: U32,
    pub(super) s_min_extra_isize: U16,
    pub(super) s_want_extra_isize: U16,

    pub(super) s_flags: U32, // 160
    pub(super) s_raid_stride: U16,
    pub(super) s_mmp_update_interval: U16,
    pub(super) s_mmp_block: U64,

    pub(super) s_raid_stripe_width: U32, // 170
    pub(super) s_log_groups_per_flex: u8,
    pub(super) s_checksum_type: u8,
    pub(super) s_encryption_level: u8,
    pub(super) s_reserved_pad: u8,
    pub(super) s_kbytes_written: U64,

    pub(super) s_snapshots_and_errors: [u8; 0xc0], // 180: what is kept for people, read by no code
    pub(super) s_usr_quota_inum: U32,              // 240
    pub(super) s_grp_quota_inum: U32,
    pub(super) s_overhead_clusters: U32,
    pub(super) s_backup_bgs: [U32; 2], // 24c
    pub(super) s_encrypt_algos: [u8; 4],
    pub(super) s_encrypt_pw_salt: [u8; 16],
    pub(super) s_lpf_ino: U32, // 268
    pub(super) s_prj_quota_inum: U32,

    pub(super) s_checksum_seed: U32, // 270
    pub(super) s_times_high: [u8; 8],
    pub(super) s_encoding: U16, // 27c
    pub(super) s_encoding_flags: U16,

    pub(super) s_orphan_file_inum: U32, // 280
    pub(super) s_reserved: [u8; 0x178],
    pub(super) s_checksum: U32, // 3fc
}

const _: () = assert!(
    size_of::<SuperBlock>() == 1024
        && offset_of!(SuperBlock, s_uuid) == 0x68
        && offset_of!(SuperBlock, s_hash_seed) == 0xec
        && offset_of!(SuperBlock, s_jnl_blocks) == 0x10c
        && offset_of!(SuperBlock, s_checksum_type) == 0x175
        && offset_of!(SuperBlock, s_backup_bgs) == 0x24c
        && offset_of!(SuperBlock, s_lpf_ino) == 0x268
        && offset_of!(SuperBlock, s_checksum_seed) == 0x270
        && offset_of!(SuperBlock, s_orphan_file_inum) == 0x280
        && offset_of!(SuperBlock, s_checksum) == 0x3fc
);

/// Group descriptor, 32-byte form. Source: `struct ext4_group_desc`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct GroupDesc {
    pub(super) bg_block_bitmap_lo: U32, // 00
    pub(super) bg_inode_bitmap_lo: U32,
    pub(super) bg_inode_table_lo: U32,
    pub(super) bg_free_blocks_count_lo: U16,
    pub(super) bg_free_inodes_count_lo: U16,

    pub(super) bg_used_dirs_count_lo: U16, // 10
    pub(super) bg_flags: U16,
    pub(super) bg_exclude_bitmap_lo: U32,
    pub(super) bg_block_bitmap_csum_lo: U16,
    pub(super) bg_inode_bitmap_csum_lo: U16,
    pub(super) bg_itable_unused_lo: U16,
    pub(super) bg_checksum: U16,
}

const _: () =
    assert!(size_of::<GroupDesc>() == DESC_BYTES && offset_of!(GroupDesc, bg_checksum) == 0x1e);

/// What follows a group descriptor with feature `64bit`. Source: `struct ext4_group_desc`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct GroupDescHigh {
    pub(super) bg_block_bitmap_hi: U32, // 20
    pub(super) bg_inode_bitmap_hi: U32,
    pub(super) bg_inode_table_hi: U32,
    pub(super) bg_free_blocks_count_hi: U16,
    pub(super) bg_free_inodes_count_hi: U16,

    pub(super) bg_used_dirs_count_hi: U16, // 30
    pub(super) bg_itable_unused_hi: U16,
    pub(super) bg_exclude_bitmap_hi: U32,
    pub(super) bg_block_bitmap_csum_hi: U16,
    pub(super) bg_inode_bitmap_csum_hi: U16,
    pub(super) bg_reserved: U32,
}

const _: () = assert!(
    size_of::<GroupDescHigh>() == 32 && offset_of!(GroupDescHigh, bg_block_bitmap_csum_hi) == 0x18
);

/// Inode with the 32 extra bytes, attributes follow at byte 160. Source: `struct ext4_inode`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RawInode {
    pub(super) i_mode: U16, // 00
    pub(super) i_uid: U16,
    pub(super) i_size_lo: U32,
    pub(super) i_atime: U32,
    pub(super) i_ctime: U32,

    pub(super) i_mtime: U32, // 10
    pub(super) i_dtime: U32,
    pub(super) i_gid: U16,
    pub(super) i_links_count: U16,
    pub(super) i_blocks_lo: U32,

    pub(super) i_flags: U32, // 20
    pub(super) i_version: U32,
    pub(super) i_block: [u8; 60],
    pub(super) i_generation: U32, // 64
    pub(super) i_file_acl_lo: U32,
    pub(super) i_size_high: U32,

    pub(super) i_obso_faddr: U32, // 70
    pub(super) i_blocks_high: U16,
    pub(super) i_file_acl_high: U16,
    pub(super) i_uid_high: U16,
    pub(super) i_gid_high: U16,
    pub(super) i_checksum_lo: U16,
    pub(super) i_reserved: U16,

    pub(super) i_extra_isize: U16, // 80
    pub(super) i_checksum_hi: U16,
    pub(super) i_ctime_extra: U32,
    pub(super) i_mtime_extra: U32,
    pub(super) i_atime_extra: U32,

    pub(super) i_crtime: U32, // 90
    pub(super) i_crtime_extra: U32,
    pub(super) i_version_hi: U32,
    pub(super) i_projid: U32,

    pub(super) attributes: [u8; 96], // a0
}

const _: () = assert!(
    size_of::<RawInode>() == INODE_BYTES
        && offset_of!(RawInode, i_block) == 40
        && offset_of!(RawInode, i_checksum_lo) == 124
        && offset_of!(RawInode, attributes) == 160
);

/// Head of an extent tree node. Source: `struct ext4_extent_header`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct ExtentHeader {
    pub(super) eh_magic: U16, // 00
    pub(super) eh_entries: U16,
    pub(super) eh_max: U16,
    pub(super) eh_depth: U16,
    pub(super) eh_generation: U32,
}

/// A run of blocks. Source: `struct ext4_extent`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct ExtentLeaf {
    pub(super) ee_block: U32, // 00
    pub(super) ee_len: U16,
    pub(super) ee_start_hi: U16,
    pub(super) ee_start_lo: U32,
}

/// A lower node of an extent tree. Source: `struct ext4_extent_idx`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct ExtentIndex {
    pub(super) ei_block: U32, // 00
    pub(super) ei_leaf_lo: U32,
    pub(super) ei_leaf_hi: U16,
    pub(super) ei_unused: U16,
}

const _: () = assert!(
    size_of::<ExtentHeader>() == 12
        && size_of::<ExtentLeaf>() == 12
        && size_of::<ExtentIndex>() == 12
);

/// Head of a directory entry, the name follows. Source: `struct ext4_dir_entry_2`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct DirEntryHead {
    pub(super) inode: U32, // 00
    pub(super) rec_len: U16,
    pub(super) name_len: u8,
    pub(super) file_type: u8,
}

/// Last 12 bytes of a directory leaf under `metadata_csum`. Source: `struct ext4_dir_entry_tail`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct DirTail {
    pub(super) det_reserved_zero1: U32, // 00
    pub(super) det_rec_len: U16,
    pub(super) det_reserved_zero2: u8,
    pub(super) det_reserved_ft: u8,
    pub(super) det_checksum: U32,
}

/// What stands behind `..` in an indexed directory's first block. Source: `struct dx_root_info`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct DxRootInfo {
    pub(super) reserved_zero: U32, // 00
    pub(super) hash_version: u8,
    pub(super) info_length: u8,
    pub(super) indirect_levels: u8,
    pub(super) unused_flags: u8,
}

/// An index entry of an indexed directory. Source: `struct dx_entry`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct DxEntry {
    pub(super) hash: U32, // 00
    pub(super) block: U32,
}

/// What lies over the first index entry's hash. Source: `struct dx_countlimit`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct DxCountLimit {
    pub(super) limit: U16, // 00
    pub(super) count: U16,
}

const _: () = assert!(
    size_of::<DirEntryHead>() == 8
        && size_of::<DirTail>() == 12
        && size_of::<DxRootInfo>() == 8
        && size_of::<DxEntry>() == 8
        && size_of::<DxCountLimit>() == 4
);

/// Head of an attribute block. Source: `struct ext4_xattr_header`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct XattrHeader {
    pub(super) h_magic: U32, // 00
    pub(super) h_refcount: U32,
    pub(super) h_blocks: U32,
    pub(super) h_hash: U32,

    pub(super) h_checksum: U32, // 10
    pub(super) h_reserved: [U32; 3],
}

/// Head of an attribute, the name's suffix follows. Source: `struct ext4_xattr_entry`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct XattrEntryHead {
    pub(super) e_name_len: u8, // 00
    pub(super) e_name_index: u8,
    pub(super) e_value_offs: U16,
    pub(super) e_value_inum: U32,
    pub(super) e_value_size: U32,
    pub(super) e_hash: U32,
}

const _: () = assert!(
    size_of::<XattrHeader>() == 32
        && offset_of!(XattrHeader, h_checksum) == 16
        && size_of::<XattrEntryHead>() == 16
);

/// First block of the journal, version 2. Source: `struct journal_superblock_s`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct JournalSuperBlock {
    pub(super) h_magic: big_endian::U32, // 00
    pub(super) h_blocktype: big_endian::U32,
    pub(super) h_sequence: big_endian::U32,
    pub(super) s_blocksize: big_endian::U32,

    pub(super) s_maxlen: big_endian::U32, // 10
    pub(super) s_first: big_endian::U32,
    pub(super) s_sequence: big_endian::U32,
    pub(super) s_start: big_endian::U32,

    pub(super) s_errno: big_endian::U32, // 20
    pub(super) s_feature_compat: big_endian::U32,
    pub(super) s_feature_incompat: big_endian::U32,
    pub(super) s_feature_ro_compat: big_endian::U32,

    pub(super) s_uuid: [u8; 16], // 30

    pub(super) s_nr_users: big_endian::U32, // 40
}

const _: () = assert!(
    size_of::<JournalSuperBlock>() == 68 && offset_of!(JournalSuperBlock, s_nr_users) == 64
);

/// Two halves as one number.
pub(super) fn join(low: U32, high: U32) -> u64 {
    u64::from(high.get()) << 32 | u64::from(low.get())
}
