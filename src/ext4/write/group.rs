//! What a group's descriptor counts.

use imbl::Vector;

use super::layout::Layout;
use crate::ext4::format::BLOCKS_PER_GROUP;

/// `EXT4_BG_INODE_UNINIT`: the inode bitmap is not read, all inodes are free.
const INODE_UNINIT: u16 = 1;
/// `EXT4_BG_BLOCK_UNINIT`: the block bitmap is not read, all but the fixed blocks is free.
const BLOCK_UNINIT: u16 = 2;
/// `EXT4_BG_INODE_ZEROED`: the kernel need not write zeros over the inode table, which in a thin pool would map all of it.
const INODE_ZEROED: u16 = 4;

/// One group's counts. Whether a bitmap was ever needed is remembered: the step back is allowed, but gains nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) free_blocks: u16,
    pub(super) free_inodes: u16,
    pub(super) used_dirs: u16,
    /// Inodes at the table's end that were never used.
    pub(super) unused_inodes: u16,
    pub(super) has_block_bitmap: bool,
    pub(super) has_inode_bitmap: bool,
}

/// All groups in order.
pub(super) type Groups = Vector<Group>;

impl Group {
    /// `bg_flags`.
    pub(super) fn flags(self) -> u16 {
        let mut flags = INODE_ZEROED;
        if !self.has_inode_bitmap {
            flags |= INODE_UNINIT;
        }
        if !self.has_block_bitmap {
            flags |= BLOCK_UNINIT;
        }
        flags
    }
}

/// Groups of which no block and no inode is taken.
pub(super) fn empty_groups(layout: &Layout) -> Groups {
    let inodes = u16::try_from(layout.inodes_per_group).expect("at most 32768");
    (0..layout.groups)
        .map(|group| Group {
            free_blocks: u16::try_from(layout.group_blocks(group)).expect("at most 32768"),
            free_inodes: inodes,
            used_dirs: 0,
            unused_inodes: inodes,
            // The last group's bitmap tells where the file system ends.
            has_block_bitmap: layout.is_host(group) || group + 1 == layout.groups,
            has_inode_bitmap: false,
        })
        .collect()
}

/// The parts of a range of blocks by group: group and number of blocks.
pub(super) fn by_group(start: u32, blocks: u32) -> impl Iterator<Item = (u32, u32)> {
    let end = start + blocks;
    let mut at = start;
    std::iter::from_fn(move || {
        let group = at / BLOCKS_PER_GROUP;
        let count = (BLOCKS_PER_GROUP - at % BLOCKS_PER_GROUP).min(end - at);
        at += count;
        (count > 0).then_some((group, count))
    })
}
