//! Group descriptors, and what is found to be taken in a group.
//!
//! Source: linux v6.6 `fs/ext4/ext4.h`, `struct ext4_group_desc`.

use zerocopy::FromBytes;

use super::bitmap::Bits;
use super::layout::Geometry;
use crate::ext4::format::{DESC_BYTES, GroupDesc, GroupDescHigh, join};

/// `EXT4_BG_INODE_UNINIT`: the inode bitmap and table are not read.
const INODE_UNINIT: u16 = 1;
/// `EXT4_BG_BLOCK_UNINIT`: the block bitmap is not read.
const BLOCK_UNINIT: u16 = 2;

/// A group as it is found, beside its descriptor.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) desc: Desc,
    pub(super) blocks: Bits,
    pub(super) inodes: Bits,
    pub(super) dirs: u32,
    /// Counted when the group was last looked at.
    pub(super) free_blocks: u32,
    pub(super) free_inodes: u32,
}

/// A descriptor's fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Desc {
    pub(super) places: Places,
    pub(super) free_blocks: u32,
    pub(super) free_inodes: u32,
    pub(super) used_dirs: u32,
    /// Inodes at the table's end that were never used.
    pub(super) unused_inodes: u32,
    pub(super) flags: u16,
    pub(super) block_sum: u32,
    pub(super) inode_sum: u32,
    /// Found and expected, where they differ.
    pub(super) wrong_sum: Option<(u16, u16)>,
}

/// Where a group's tables lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) block_bitmap: u64,
    pub(super) inode_bitmap: u64,
    pub(super) inode_table: u64,
}

impl Desc {
    pub(super) fn parse(bytes: &[u8], group: u32, geometry: &Geometry) -> Self {
        let low = GroupDesc::read_from_prefix(bytes)
            .expect("32 bytes at least")
            .0;
        let high = bytes.get(DESC_BYTES..).and_then(|high| {
            let (high, _) = GroupDescHigh::read_from_prefix(high).ok()?;
            Some(high)
        });
        let high = high.unwrap_or_default();
        let halves = |low: zerocopy::little_endian::U16, high: zerocopy::little_endian::U16| {
            u32::from(high.get()) << 16 | u32::from(low.get())
        };
        let found = low.bg_checksum.get();
        let expected = geometry.sums.descriptor(group, bytes);
        let is_wrong = geometry.sums.of_descriptors() && found != expected;
        Self {
            places: Places {
                block_bitmap: join(low.bg_block_bitmap_lo, high.bg_block_bitmap_hi),
                inode_bitmap: join(low.bg_inode_bitmap_lo, high.bg_inode_bitmap_hi),
                inode_table: join(low.bg_inode_table_lo, high.bg_inode_table_hi),
            },
            free_blocks: halves(low.bg_free_blocks_count_lo, high.bg_free_blocks_count_hi),
            free_inodes: halves(low.bg_free_inodes_count_lo, high.bg_free_inodes_count_hi),
            used_dirs: halves(low.bg_used_dirs_count_lo, high.bg_used_dirs_count_hi),
            unused_inodes: halves(low.bg_itable_unused_lo, high.bg_itable_unused_hi),
            flags: low.bg_flags.get(),
            block_sum: halves(low.bg_block_bitmap_csum_lo, high.bg_block_bitmap_csum_hi),
            inode_sum: halves(low.bg_inode_bitmap_csum_lo, high.bg_inode_bitmap_csum_hi),
            wrong_sum: is_wrong.then_some((found, expected)),
        }
    }

    /// The flags count only where checksums guard them.
    pub(super) fn is_block_uninit(&self, geometry: &Geometry) -> bool {
        geometry.sums.of_descriptors() && self.flags & BLOCK_UNINIT != 0
    }

    pub(super) fn is_inode_uninit(&self, geometry: &Geometry) -> bool {
        geometry.sums.of_descriptors() && self.flags & INODE_UNINIT != 0
    }

    /// Whether a flag or count is set that without checksums has no meaning.
    pub(super) fn has_uninit(&self) -> bool {
        self.flags & (INODE_UNINIT | BLOCK_UNINIT) != 0 || self.unused_inodes != 0
    }

    /// Inodes of the table that may be in use.
    pub(super) fn visible_inodes(&self, geometry: &Geometry) -> u32 {
        if self.is_inode_uninit(geometry) {
            return 0;
        }
        let unused = if geometry.sums.of_descriptors() {
            self.unused_inodes
        } else {
            0
        };
        geometry.inodes_per_group.saturating_sub(unused)
    }
}
