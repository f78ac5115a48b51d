//! The superblock and its copies, and the journal's.
//!
//! Source: linux v6.6 `Documentation/filesystems/ext4/super.rst`, `journal.rst`. Which features and why: `docs/ext4.md`.

use zerocopy::{FromZeros, IntoBytes};

use super::extents::Blocks;
use super::inode::low_word;
use super::layout::{FIRST_INODE, Layout};
use crate::ext4::checksum;
use crate::ext4::format::{
    BLOCK, BLOCKS_PER_GROUP, INODE_BYTES, JOURNAL_MAGIC, JournalSuperBlock, SUPER_MAGIC, SuperBlock,
};
use crate::ext4::ino::Ino;
use crate::ext4::params::{Checksums, Params, Usage};

/// `has_journal`, `ext_attr`, `dir_index`.
const COMPAT: u32 = 0x4 | 0x8 | 0x20;
/// `filetype`, `extents`, `flex_bg`.
const INCOMPAT: u32 = 0x2 | 0x40 | 0x200;
/// `sparse_super`, `large_file`, `huge_file`, `dir_nlink`, `extra_isize`.
const RO_COMPAT: u32 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40;
/// `uninit_bg`, also called `gdt_csum`.
const RO_COMPAT_GDT_CSUM: u32 = 0x10;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;
/// Hash the bytes of names as signed ones, on every machine.
const FLAG_SIGNED_HASH: u32 = 1;
/// `EXT4_DEFM_XATTR_USER`, `EXT4_DEFM_ACL`.
const DEFAULT_MOUNT_OPTIONS: u32 = 0x4 | 0x8;

/// What a superblock tells.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) params: &'a Params,
    pub(super) layout: &'a Layout,
    pub(super) usage: Usage,
    pub(super) journal: &'a Blocks,
    /// The group at whose start this copy lies.
    pub(super) group: u32,
}

impl Facts<'_> {
    /// The 1024 bytes.
    pub(super) fn encode(&self) -> SuperBlock {
        let mut raw = SuperBlock::new_zeroed();
        self.encode_counts(&mut raw);
        self.encode_identity(&mut raw);
        self.encode_journal(&mut raw);
        if self.params.checksums == Checksums::Metadata {
            raw.s_checksum_type = 1;
            let covered = size_of::<SuperBlock>() - 4;
            raw.s_checksum = checksum::superblock(&raw.as_bytes()[..covered]).into();
        }
        raw
    }

    fn encode_counts(&self, raw: &mut SuperBlock) {
        raw.s_inodes_count = self.usage.inodes.into();
        raw.s_blocks_count_lo = self.usage.blocks.into();
        raw.s_free_blocks_count_lo = self.usage.free_blocks.into();
        raw.s_free_inodes_count = self.usage.free_inodes.into();
        raw.s_log_block_size = 2.into();
        raw.s_log_cluster_size = 2.into();
        raw.s_blocks_per_group = BLOCKS_PER_GROUP.into();
        raw.s_clusters_per_group = BLOCKS_PER_GROUP.into();
        raw.s_inodes_per_group = self.layout.inodes_per_group.into();
        raw.s_first_ino = FIRST_INODE.into();
        raw.s_inode_size = u16::try_from(INODE_BYTES).expect("256").into();
        raw.s_min_extra_isize = 32.into();
        raw.s_want_extra_isize = 32.into();
        raw.s_log_groups_per_flex = u8::try_from(self.layout.flex.ilog2()).expect("3 or 4");
    }

    fn encode_identity(&self, raw: &mut SuperBlock) {
        let created = low_word(self.params.created.sec().cast_unsigned());
        raw.s_wtime = created.into();
        raw.s_lastcheck = created.into();
        raw.s_mkfs_time = created.into();
        // No check after a number of mounts.
        raw.s_max_mnt_count = u16::MAX.into();
        raw.s_magic = SUPER_MAGIC.into();
        raw.s_state = 1.into();
        raw.s_errors = 1.into();
        raw.s_rev_level = 1.into();
        raw.s_block_group_nr = checksum::low(self.group).into();
        raw.s_feature_compat = COMPAT.into();
        raw.s_feature_incompat = INCOMPAT.into();
        raw.s_feature_ro_compat = match self.params.checksums {
            Checksums::GroupDescriptors => RO_COMPAT | RO_COMPAT_GDT_CSUM,
            Checksums::Metadata => RO_COMPAT | RO_COMPAT_METADATA_CSUM,
        }
        .into();
        raw.s_uuid = self.params.uuid;
        raw.s_hash_seed = self.params.hash_seed.map(Into::into);
        raw.s_def_hash_version = 1;
        raw.s_flags = FLAG_SIGNED_HASH.into();
        raw.s_default_mount_opts = DEFAULT_MOUNT_OPTIONS.into();
    }

    /// Names the journal, with the copy of its inode from which e2fsck restores it.
    fn encode_journal(&self, raw: &mut SuperBlock) {
        raw.s_journal_inum = Ino::JOURNAL.0.into();
        raw.s_jnl_backup_type = 1;
        let mut root = [0; 60];
        self.journal.encode_root(&mut root);
        for (word, bytes) in raw.s_jnl_blocks.iter_mut().zip(root.chunks_exact(4)) {
            word.as_mut_bytes().copy_from_slice(bytes);
        }
        raw.s_jnl_blocks[16] = (self.journal.nr_blocks() * BLOCK_BYTES).into();
    }
}

/// Bytes of a block; a journal has at most 32768 of them.
#[allow(clippy::cast_possible_truncation)] // 4096
const BLOCK_BYTES: u32 = BLOCK as u32;

/// The first block of an empty journal.
pub(super) fn encode_journal(blocks: u32, uuid: [u8; 16], out: &mut [u8]) {
    let mut raw = JournalSuperBlock::new_zeroed();
    raw.h_magic = JOURNAL_MAGIC.into();
    raw.h_blocktype = 4.into();
    raw.s_blocksize = BLOCK_BYTES.into();
    raw.s_maxlen = blocks.into();
    raw.s_first = 1.into();
    raw.s_sequence = 1.into();
    raw.s_uuid = uuid;
    raw.s_nr_users = 1.into();
    out[..size_of::<JournalSuperBlock>()].copy_from_slice(raw.as_bytes());
}
