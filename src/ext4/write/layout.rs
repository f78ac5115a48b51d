//! Where the fixed tables of a file system lie, computed from its size alone.
//!
//! Groups of 128 MiB; the first of every 16 hosts the bitmaps and inode tables of all 16 (`flex_bg`), both areas on
//! 64 KiB boundaries: a layer that touches one of these tables then writes one piece of a thin pool, not two halves.

use super::error::Error;
use crate::ext4::format::{BLOCK, BLOCKS_PER_GROUP, DESC_BYTES, INODES_PER_BLOCK};
use crate::ext4::params::Params;

/// Blocks of 4 KiB in a cluster of 64 KiB, the unit in which images are written.
pub const CLUSTER_BLOCKS: u32 = 16;

/// First inode that is not reserved; `mkfs` gives it to `lost+found`.
pub(super) const FIRST_INODE: u32 = 11;

/// Blocks a last group must have beyond its tables to be worth having; `mkfs` asks for as many.
const LAST_GROUP_SPARE: u32 = 50;

/// The numbers that all positions follow from.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Blocks of the file system, all in a group.
    pub(super) blocks: u32,
    pub(super) groups: u32,
    pub(super) inodes_per_group: u32,
    /// Blocks of one copy of the descriptor table.
    pub(super) descriptor_blocks: u32,
    /// Blocks of one group's inode table.
    pub(super) table_blocks: u32,
    /// Groups that share one area of tables, a power of two.
    pub(super) flex: u32,
}

/// A block whose place follows from the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FixedBlock {
    /// The superblock, in the copy of this group.
    Super { group: u32 },
    /// This block of a descriptor table.
    Descriptors { index: u32 },
    /// A group's block bitmap.
    BlockBitmap { group: u32 },
    /// A group's inode bitmap.
    InodeBitmap { group: u32 },
    /// This block of all inode tables taken together.
    Inodes { index: u32 },
}

impl Layout {
    pub(super) fn new(params: &Params) -> Result<Self, Error> {
        let per_group = params.inodes_per_group;
        if per_group == 0 || !per_group.is_multiple_of(256) || per_group > BLOCKS_PER_GROUP {
            return Err(Error::InodesPerGroup {
                inodes_per_group: per_group,
            });
        }
        let mut blocks = params.blocks;
        loop {
            let layout = Self::of_size(blocks, params)?;
            if layout.last_group_is_useful() {
                return Ok(layout);
            }
            blocks = (layout.groups - 1) * BLOCKS_PER_GROUP;
        }
    }

    fn of_size(blocks: u32, params: &Params) -> Result<Self, Error> {
        let per_group = params.inodes_per_group;
        let groups = blocks.div_ceil(BLOCKS_PER_GROUP);
        if groups == 0 {
            return Err(Error::TooSmall {
                blocks: params.blocks,
            });
        }
        let too_large = || Error::TooLarge {
            blocks: params.blocks,
            inodes_per_group: per_group,
        };
        groups.checked_mul(per_group).ok_or_else(too_large)?;
        // One group less than 2^32 blocks, so that the end of every group has a number.
        groups.checked_mul(BLOCKS_PER_GROUP).ok_or_else(too_large)?;
        let mut layout = Self {
            blocks,
            groups,
            inodes_per_group: per_group,
            descriptor_blocks: (groups as usize * DESC_BYTES)
                .div_ceil(BLOCK)
                .try_into()
                .map_err(|_| too_large())?,
            table_blocks: per_group / INODES_PER_BLOCK,
            flex: 16,
        };
        // With the most inodes, sixteen tables fill more than the group that hosts them.
        if layout.flex_start(0) + layout.flex_area(layout.flex) > BLOCKS_PER_GROUP {
            layout.flex = 8;
        }
        if layout.flex_start(0) + layout.flex_area(layout.flex) > BLOCKS_PER_GROUP {
            return Err(too_large());
        }
        Ok(layout)
    }

    fn last_group_is_useful(&self) -> bool {
        let last = self.groups - 1;
        let own = if last.is_multiple_of(self.flex) {
            self.flex_start(last) - group_start(last) + self.flex_area(1)
        } else {
            self.copy_blocks(last)
        };
        self.group_blocks(last) >= own + LAST_GROUP_SPARE
    }

    /// Blocks from a flex group's first bitmap to the end of its last table.
    fn flex_area(&self, tables: u32) -> u32 {
        2 * self.flex + tables * self.table_blocks
    }

    /// Inodes in all.
    pub(super) fn inodes(&self) -> u32 {
        self.groups * self.inodes_per_group
    }

    /// Whole clusters and a last one cut short.
    pub(super) fn clusters(&self) -> u32 {
        self.blocks.div_ceil(CLUSTER_BLOCKS)
    }

    /// Blocks of a group: all have 32768 but the last.
    pub(super) fn group_blocks(&self, group: u32) -> u32 {
        (self.blocks - group_start(group)).min(BLOCKS_PER_GROUP)
    }

    /// Blocks of superblock and descriptor table at a group's start, 0 where there is no copy.
    pub(super) fn copy_blocks(&self, group: u32) -> u32 {
        if has_super(group) {
            1 + self.descriptor_blocks
        } else {
            0
        }
    }

    /// Whether a group holds other groups' tables.
    pub(super) fn is_host(&self, group: u32) -> bool {
        group.is_multiple_of(self.flex)
    }

    pub(super) fn block_bitmap(&self, group: u32) -> u32 {
        self.flex_start(group) + group % self.flex
    }

    pub(super) fn inode_bitmap(&self, group: u32) -> u32 {
        self.flex_start(group) + self.flex + group % self.flex
    }

    pub(super) fn inode_table(&self, group: u32) -> u32 {
        self.flex_start(group) + self.flex_area(group % self.flex)
    }

    /// The block that holds this block of all inode tables taken together.
    pub(super) fn inode_block(&self, index: u32) -> u32 {
        self.inode_table(index / self.table_blocks) + index % self.table_blocks
    }

    /// The block of the first descriptor table that describes `group`.
    pub(super) fn descriptor_block(group: u32) -> u32 {
        1 + group / DESCRIPTORS_PER_BLOCK
    }

    /// First block of the tables of the flex group that `group` belongs to.
    fn flex_start(&self, group: u32) -> u32 {
        let host = group - group % self.flex;
        (group_start(host) + self.copy_blocks(host)).next_multiple_of(CLUSTER_BLOCKS)
    }

    /// What lies at a block by the layout alone.
    pub(super) fn fixed(&self, block: u32) -> Option<FixedBlock> {
        let (group, offset) = (block / BLOCKS_PER_GROUP, block % BLOCKS_PER_GROUP);
        if group >= self.groups {
            return None;
        }
        if offset < self.copy_blocks(group) {
            return Some(match offset {
                0 => FixedBlock::Super { group },
                _ => FixedBlock::Descriptors { index: offset - 1 },
            });
        }
        let host = group - group % self.flex;
        self.fixed_in_area(host, block.checked_sub(self.flex_start(host))?)
    }

    fn fixed_in_area(&self, host: u32, at: u32) -> Option<FixedBlock> {
        let hosted = self.flex.min(self.groups - host);
        if at < self.flex {
            return (at < hosted).then(|| FixedBlock::BlockBitmap { group: host + at });
        }
        if at < 2 * self.flex {
            let group = host + at - self.flex;
            return (at - self.flex < hosted).then_some(FixedBlock::InodeBitmap { group });
        }
        let at = at - 2 * self.flex;
        (at < hosted * self.table_blocks).then(|| FixedBlock::Inodes {
            index: host * self.table_blocks + at,
        })
    }

    /// Blocks of the journal, in `mkfs.ext4`'s steps up to 128 MiB: what a thin pool maps of it is its first block.
    pub(super) fn journal_blocks(&self) -> u32 {
        match self.blocks {
            0..32_768 => 1024,
            32_768..262_144 => 4096,
            262_144..524_288 => 8192,
            524_288..4_194_304 => 16_384,
            _ => 32_768,
        }
    }
}

/// Descriptors in a block.
#[allow(clippy::cast_possible_truncation)] // 128
pub(super) const DESCRIPTORS_PER_BLOCK: u32 = (BLOCK / DESC_BYTES) as u32;

/// First block of a group.
pub(super) fn group_start(group: u32) -> u32 {
    group * BLOCKS_PER_GROUP
}

/// Whether a group starts with a copy of the superblock (`sparse_super`): 0, 1 and the powers of 3, 5 and 7.
fn has_super(group: u32) -> bool {
    let is_power = |base: u32| {
        let mut left = group;
        while left > 1 && left.is_multiple_of(base) {
            left /= base;
        }
        left == 1
    };
    group == 0 || is_power(3) || is_power(5) || is_power(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(blocks: u32, inodes_per_group: u32) -> Layout {
        Layout::new(&Params {
            blocks,
            inodes_per_group,
            uuid: [0; 16],
            hash_seed: [0; 4],
            checksums: crate::ext4::params::Checksums::default(),
            created: crate::tree::Timestamp::default(),
        })
        .unwrap()
    }

    #[test]
    fn copies_stand_in_zero_one_and_odd_powers() {
        let groups: Vec<_> = (0..130).filter(|&group| has_super(group)).collect();
        assert_eq!(groups, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }

    #[test]
    fn fixed_is_the_inverse_of_the_positions() {
        for (blocks, per_group) in [(2_621_440, 8192), (2_621_440, 32_768), (600_000, 256)] {
            let layout = layout(blocks, per_group);
            for group in 0..layout.groups {
                let at = |block| layout.fixed(block);
                assert_eq!(
                    at(layout.block_bitmap(group)),
                    Some(FixedBlock::BlockBitmap { group })
                );
                assert_eq!(
                    at(layout.inode_bitmap(group)),
                    Some(FixedBlock::InodeBitmap { group })
                );
                let index = group * layout.table_blocks;
                assert_eq!(
                    at(layout.inode_table(group)),
                    Some(FixedBlock::Inodes { index })
                );
                let last = index + layout.table_blocks - 1;
                assert_eq!(
                    at(layout.inode_block(last)),
                    Some(FixedBlock::Inodes { index: last })
                );
            }
        }
    }

    #[test]
    fn each_table_area_starts_a_cluster() {
        let layout = layout(2_621_440, 8192);
        for group in (0..layout.groups).step_by(16) {
            assert_eq!(layout.block_bitmap(group) % CLUSTER_BLOCKS, 0);
            assert_eq!(layout.inode_table(group) % CLUSTER_BLOCKS, 0);
        }
    }

    #[test]
    fn a_last_group_without_room_for_its_tables_is_left_out() {
        assert_eq!(layout(16 * 32_768 + 500, 8192).groups, 16);
        assert_eq!(layout(16 * 32_768 + 700, 8192).groups, 17);
        assert_eq!(layout(15 * 32_768 + 40, 8192).groups, 15);
    }
}
