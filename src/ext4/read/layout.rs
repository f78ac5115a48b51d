//! What of a file system follows from its superblock alone and stays while it is used.

use zerocopy::FromBytes;

use super::error::Error;
use super::features::Features;
use super::sums::Sums;
use crate::ext4::checksum;
use crate::ext4::format::{SUPER_MAGIC, SuperBlock};
use crate::ext4::hash::HashKind;
use crate::ext4::ino::Ino;

/// Byte at which the superblock starts.
pub(super) const SUPER_OFFSET: u64 = 1024;
/// Bytes of it.
pub(super) const SUPER_BYTES: usize = size_of::<SuperBlock>();
/// Bytes of an inode of ext2.
pub(super) const OLD_INODE_BYTES: usize = 128;
/// First inode that is not reserved, when the superblock does not tell.
const OLD_FIRST_INODE: u32 = 11;
/// `EXT2_FLAGS_UNSIGNED_HASH`.
const FLAG_UNSIGNED_HASH: u32 = 2;
/// Most groups that are read: 2^32 inodes do not fill more, as a group has eight at least.
const MAX_GROUPS: u64 = 1 << 29;

/// Sizes, places and rules. Two file systems with equal ones can be told apart block by block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) features: Features,
    pub(super) sums: Sums,
    /// 1024, 2048 or 4096.
    pub(super) block_bytes: u32,
    pub(super) blocks: u64,
    /// Where the first group starts: 1 with blocks of 1024 bytes, else 0.
    pub(super) first_block: u64,
    pub(super) blocks_per_group: u32,
    pub(super) groups: u32,
    pub(super) inodes_per_group: u32,
    pub(super) inode_bytes: usize,
    pub(super) desc_bytes: usize,
    /// First inode that is not reserved.
    pub(super) first_ino: Ino,
    pub(super) reserved_gdt: u32,
    first_meta_bg: u32,
    backup_groups: [u32; 2],
    pub(super) journal_ino: Ino,
    pub(super) orphan_file: Option<Ino>,
    pub(super) hash_seed: [u32; 4],
    pub(super) unsigned_hash: bool,
    /// It was made or used so early that a time may be taken for the number of an inode.
    pub(super) has_early_times: bool,
}

impl Geometry {
    /// From the 1024 bytes of a superblock.
    pub(super) fn parse(bytes: &[u8; SUPER_BYTES]) -> Result<(Self, SuperBlock), Error> {
        let raw = SuperBlock::read_from_bytes(bytes).expect("it has that size");
        if raw.s_magic.get() != SUPER_MAGIC {
            return Err(Error::NotExt4 {
                found: raw.s_magic.get(),
            });
        }
        let features = Features::new(&raw);
        if features.metadata_csum() {
            check("s_checksum_type", raw.s_checksum_type.into(), 1..=1)?;
            let expected = checksum::superblock(&bytes[..SUPER_BYTES - 4]);
            let found = raw.s_checksum.get();
            if found != expected {
                return Err(Error::Checksum { found, expected });
            }
        }
        // Which features are there is only known from revision 1 on; everything before is ext2 of the nineties.
        check("s_rev_level", raw.s_rev_level.get().into(), 1..=1)?;
        if let Some(names) = features.unsupported() {
            return Err(Error::Unsupported { names });
        }
        Ok((Self::new(&raw, features)?, raw))
    }

    fn new(raw: &SuperBlock, features: Features) -> Result<Self, Error> {
        let size = Size::parse(raw, features)?;
        let inodes = check_inodes(raw, &size)?;
        let times = [raw.s_wtime, raw.s_mtime, raw.s_mkfs_time];
        let geometry = Self {
            features: features.lasting(),
            sums: Sums::new(raw, features),
            block_bytes: size.block_bytes,
            blocks: size.blocks,
            first_block: size.first_block,
            blocks_per_group: size.per_group,
            groups: u32::try_from(size.groups).expect("at most 2^29"),
            inodes_per_group: raw.s_inodes_per_group.get(),
            inode_bytes: raw.s_inode_size.get().into(),
            desc_bytes: desc_bytes(raw, features)?,
            first_ino: Ino(raw.s_first_ino.get()),
            reserved_gdt: raw.s_reserved_gdt_blocks.get().into(),
            first_meta_bg: raw.s_first_meta_bg.get(),
            backup_groups: raw.s_backup_bgs.map(Into::into),
            journal_ino: Ino(raw.s_journal_inum.get()),
            orphan_file: features
                .orphan_file()
                .then(|| Ino(raw.s_orphan_file_inum.get())),
            hash_seed: raw.s_hash_seed.map(Into::into),
            unsigned_hash: raw.s_flags.get() & FLAG_UNSIGNED_HASH != 0,
            has_early_times: times
                .iter()
                .any(|time| time.get() != 0 && u64::from(time.get()) < inodes),
        };
        geometry.check_tables(raw)?;
        Ok(geometry)
    }

    fn check_tables(&self, raw: &SuperBlock) -> Result<(), Error> {
        check(
            "s_reserved_gdt_blocks",
            self.reserved_gdt.into(),
            0..=u64::from(self.block_bytes / 4),
        )?;
        check(
            "s_log_groups_per_flex",
            raw.s_log_groups_per_flex.into(),
            0..=31,
        )?;
        if self.features.meta_bg() {
            check(
                "s_first_meta_bg",
                self.first_meta_bg.into(),
                0..=self.descriptor_blocks().into(),
            )?;
        }
        Ok(())
    }

    /// The size of a block, for buffers.
    pub(super) fn block_size(&self) -> usize {
        self.block_bytes as usize
    }

    pub(super) fn offset(&self, block: u64) -> u64 {
        block * u64::from(self.block_bytes)
    }

    /// Whether a file may have this block.
    pub(super) fn is_block(&self, block: u64) -> bool {
        (self.first_block.max(1)..self.blocks).contains(&block)
    }

    pub(super) fn is_range(&self, start: u64, blocks: u64) -> bool {
        self.is_block(start) && blocks <= self.blocks - start
    }

    pub(super) fn inodes(&self) -> u32 {
        // The superblock's own count, which was compared.
        self.groups * self.inodes_per_group
    }

    /// First block of a group.
    pub(super) fn group_start(&self, group: u32) -> u64 {
        self.first_block + u64::from(group) * u64::from(self.blocks_per_group)
    }

    /// Blocks of a group: all have the same number but the last.
    pub(super) fn group_blocks(&self, group: u32) -> u32 {
        let left = self.blocks - self.group_start(group);
        u32::try_from(left).map_or(self.blocks_per_group, |left| {
            left.min(self.blocks_per_group)
        })
    }

    /// The group that a block lies in, and its number there.
    pub(super) fn place(&self, block: u64) -> (u32, u32) {
        let within = block - self.first_block;
        let per_group = u64::from(self.blocks_per_group);
        let small = |n: u64| u32::try_from(n).expect("a block of the file system");
        (small(within / per_group), small(within % per_group))
    }

    /// The group that an inode lies in, and its index there.
    pub(super) fn inode_place(&self, ino: Ino) -> (u32, u32) {
        let index = ino.0 - 1;
        (index / self.inodes_per_group, index % self.inodes_per_group)
    }

    pub(super) fn is_inode(&self, ino: Ino) -> bool {
        (1..=self.inodes()).contains(&ino.0)
    }

    /// Blocks of a group's inode table.
    pub(super) fn table_blocks(&self) -> u32 {
        let bytes = u64::from(self.inodes_per_group) * self.inode_bytes as u64;
        u32::try_from(bytes.div_ceil(self.block_bytes.into())).expect("at most a group")
    }

    pub(super) fn inodes_per_block(&self) -> u32 {
        self.block_bytes / u32::try_from(self.inode_bytes).expect("at most a block")
    }

    pub(super) fn descriptors_per_block(&self) -> u32 {
        self.block_bytes / u32::try_from(self.desc_bytes).expect("at most 1024")
    }

    /// Blocks of one whole descriptor table.
    pub(super) fn descriptor_blocks(&self) -> u32 {
        self.groups.div_ceil(self.descriptors_per_block())
    }

    /// Where the block of the first descriptor table with this number lies.
    pub(super) fn descriptor_block(&self, index: u32) -> u64 {
        if !self.features.meta_bg() || index < self.first_meta_bg {
            return self.first_block + 1 + u64::from(index);
        }
        let group = index * self.descriptors_per_block();
        self.group_start(group) + u64::from(self.has_super(group))
    }

    /// Whether a group starts with a copy of the superblock.
    pub(super) fn has_super(&self, group: u32) -> bool {
        if group == 0 {
            return true;
        }
        if self.features.sparse_super2() {
            return self.backup_groups.contains(&group);
        }
        !self.features.sparse_super() || has_sparse_super(group)
    }

    /// Blocks at a group's start that hold the superblock and descriptors, or are kept for more of them.
    pub(super) fn head_blocks(&self, group: u32) -> u32 {
        let copy = u32::from(self.has_super(group));
        let meta = group / self.descriptors_per_block();
        if self.features.meta_bg() && meta >= self.first_meta_bg {
            let within = group % self.descriptors_per_block();
            let holds = within < 2 || within + 1 == self.descriptors_per_block();
            return copy + u32::from(holds);
        }
        let table = if self.features.meta_bg() {
            self.first_meta_bg
        } else {
            self.descriptor_blocks().saturating_add(self.reserved_gdt)
        };
        copy * table.saturating_add(1)
    }

    /// Longest extent tree or index that blocks of this size need.
    pub(super) fn index_levels(&self) -> u8 {
        if self.features.large_dir() { 3 } else { 2 }
    }

    /// The hash that an indexed directory says it is ordered by; `None` for one that is not known.
    pub(super) fn hash_kind(&self, version: u8) -> Option<HashKind> {
        HashKind::new(version, self.unsigned_hash)
    }
}

/// How large a file system is.
struct Size {
    block_bytes: u32,
    first_block: u64,
    blocks: u64,
    per_group: u32,
    groups: u64,
}

impl Size {
    fn parse(raw: &SuperBlock, features: Features) -> Result<Self, Error> {
        let log = u64::from(raw.s_log_block_size.get());
        check("s_log_block_size", log, 0..=2)?;
        let cluster = raw.s_log_cluster_size.get().into();
        check("s_log_cluster_size", cluster, log..=log)?;
        let block_bytes = 1024_u32 << log;
        // Where blocks are that small, the superblock has one of its own.
        let first_block = u64::from(log == 0);
        let first = raw.s_first_data_block.get().into();
        check("s_first_data_block", first, first_block..=first_block)?;
        let per_group = raw.s_blocks_per_group.get();
        let bits = u64::from(block_bytes) * 8;
        check("s_blocks_per_group", per_group.into(), 8..=bits)?;
        check_bytes("s_blocks_per_group", per_group)?;
        let clusters = raw.s_clusters_per_group.get().into();
        let same = u64::from(per_group);
        check("s_clusters_per_group", clusters, same..=same)?;
        let high = if features.is_64bit() {
            raw.s_blocks_count_hi
        } else {
            0.into()
        };
        let blocks = crate::ext4::format::join(raw.s_blocks_count_lo, high);
        let most = (1 << 48).min(first_block + MAX_GROUPS * same);
        check("s_blocks_count", blocks, first_block + 1..=most)?;
        Ok(Self {
            block_bytes,
            first_block,
            blocks,
            per_group,
            groups: (blocks - first_block).div_ceil(same),
        })
    }
}

/// The number of inodes, if it is what groups of this size have.
fn check_inodes(raw: &SuperBlock, size: &Size) -> Result<u64, Error> {
    let inode_bytes = u64::from(raw.s_inode_size.get());
    let least = OLD_INODE_BYTES as u64;
    check("s_inode_size", inode_bytes, least..=size.block_bytes.into())?;
    check_power("s_inode_size", inode_bytes)?;
    let per_block = u64::from(size.block_bytes) / inode_bytes;
    let per_group = raw.s_inodes_per_group.get();
    let in_group = per_block * u64::from(size.per_group.saturating_sub(4));
    let most = in_group.min(u64::from(size.block_bytes) * 8);
    check("s_inodes_per_group", per_group.into(), per_block..=most)?;
    check_bytes("s_inodes_per_group", per_group)?;
    let inodes = size.groups * u64::from(per_group);
    let found = raw.s_inodes_count.get().into();
    check("s_inodes_count", found, inodes..=inodes)?;
    let first = raw.s_first_ino.get().into();
    check("s_first_ino", first, OLD_FIRST_INODE.into()..=inodes)?;
    Ok(inodes)
}

fn desc_bytes(raw: &SuperBlock, features: Features) -> Result<usize, Error> {
    if !features.is_64bit() {
        return Ok(32);
    }
    let bytes = raw.s_desc_size.get();
    check("s_desc_size", bytes.into(), 64..=1024)?;
    check_power("s_desc_size", bytes.into())?;
    Ok(bytes.into())
}

/// Bitmaps are compared by the byte.
fn check_bytes(field: &'static str, bits: u32) -> Result<(), Error> {
    let value = bits.into();
    if bits.is_multiple_of(8) {
        return Ok(());
    }
    Err(Error::Superblock { field, value })
}

fn check_power(field: &'static str, value: u64) -> Result<(), Error> {
    if value.is_power_of_two() {
        return Ok(());
    }
    Err(Error::Superblock { field, value })
}

fn check(
    field: &'static str,
    value: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<(), Error> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::Superblock { field, value })
}

/// Whether `sparse_super` leaves a copy in a group: 0, 1 and the powers of 3, 5 and 7.
///
/// The writer has its own version of this rule. One for both would make the reader agree with whatever the writer got wrong.
/// Source: linux v6.6 `fs/ext4/balloc.c`, `ext4_bg_has_super`, `test_root`.
fn has_sparse_super(group: u32) -> bool {
    let reaches = |root: u32| {
        let powers = std::iter::successors(Some(root), |power| power.checked_mul(root));
        powers
            .take_while(|power| *power <= group)
            .any(|power| power == group)
    };
    group <= 1 || [3, 5, 7].into_iter().any(reaches)
}

#[cfg(test)]
mod tests {
    use super::has_sparse_super;

    #[test]
    fn copies_are_expected_in_zero_one_and_odd_powers() {
        let groups: Vec<_> = (0..730).filter(|&group| has_sparse_super(group)).collect();
        assert_eq!(
            groups,
            [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343, 625, 729]
        );
        assert!(has_sparse_super(3_486_784_401) && !has_sparse_super(u32::MAX));
    }
}
