//! The superblock: what a pool is, and where its trees and space maps begin.

use zerocopy::FromBytes;
use zerocopy::little_endian::{U32, U64};

use super::block_kind::BlockKind;
use super::checksum::{seal, verify};
use super::error::{Error, Fault, Feature, malformed};
use super::format::{
    BLOCK_SIZE, Block, DATA_BLOCK_SIZE_STEP, MAGIC, MAX_DATA_BLOCK_SIZE, MAX_DATA_BLOCKS,
    METADATA_BLOCK_SECTORS, NEEDS_CHECK, RawSpaceMapRoot, RawSuperblock, VERSION,
};
use super::pool::MAX_METADATA_BLOCKS;
use super::remarks::Remarks;
use crate::units::Sectors;

/// Where a space map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SpaceMapRoot {
    /// Blocks of the device.
    pub(super) nr_blocks: u64,
    /// Those that are in use.
    pub(super) nr_allocated: u64,
    /// The index: a tree's root for data, the index block for metadata.
    pub(super) bitmap_root: u64,
    /// Root of the tree of counts above 2.
    pub(super) ref_count_root: u64,
}

impl SpaceMapRoot {
    fn encode(self) -> RawSpaceMapRoot {
        RawSpaceMapRoot {
            nr_blocks: U64::new(self.nr_blocks),
            nr_allocated: U64::new(self.nr_allocated),
            bitmap_root: U64::new(self.bitmap_root),
            ref_count_root: U64::new(self.ref_count_root),
        }
    }

    fn parse(raw: &RawSpaceMapRoot) -> Self {
        Self {
            nr_blocks: raw.nr_blocks.get(),
            nr_allocated: raw.nr_allocated.get(),
            bitmap_root: raw.bitmap_root.get(),
            ref_count_root: raw.ref_count_root.get(),
        }
    }
}

/// What the superblock says; everything else in it is constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) time: u32,
    pub(super) transaction_id: u64,
    pub(super) data: SpaceMapRoot,
    /// Its `nr_blocks` is the size of the metadata device that the kernel goes by.
    pub(super) metadata: SpaceMapRoot,
    pub(super) mapping_root: u64,
    pub(super) details_root: u64,
    /// Checked: a multiple of 128 up to 2^21.
    pub(super) data_block_size: Sectors,
}

impl Superblock {
    /// Block 0.
    pub(super) fn encode(&self) -> Block {
        // All that is set lies in the first 512 bytes, as in the kernel's own (`__commit_transaction` insists on it). A
        // disk writes a sector whole or not at all, and block 0 is zero until then, so a crash leaves no pool or this
        // one, never a torn superblock. The checksum spans the whole block, whose rest is zero before and after.
        let mut block = [0; BLOCK_SIZE];
        let (raw, _) = RawSuperblock::mut_from_prefix(&mut block).expect("a block has room");
        raw.magic = U64::new(MAGIC);
        raw.version = U32::new(VERSION);
        raw.time = U32::new(self.time);
        raw.trans_id = U64::new(self.transaction_id);
        raw.data_space_map_root = self.data.encode();
        raw.metadata_space_map_root = self.metadata.encode();
        raw.data_mapping_root = U64::new(self.mapping_root);
        raw.device_details_root = U64::new(self.details_root);
        let sectors = u32::try_from(self.data_block_size.0);
        raw.data_block_size = U32::new(sectors.expect("checked: at most 2^21"));
        raw.metadata_block_size = U32::new(METADATA_BLOCK_SECTORS);
        // The kernel sets this once, at format, and goes by the space map, which grows with the device. So it is
        // written for others to read and never read back here.
        raw.metadata_nr_blocks = U64::new(self.metadata.nr_blocks);
        // Last, since the checksum covers every other field.
        seal(BlockKind::Superblock, 0, &mut block);
        block
    }

    /// Reads block 0, which must have nothing odd about it.
    ///
    /// # Errors
    ///
    /// [`Error::Unformatted`], [`Error::Magic`], [`Error::Checksum`], [`Error::Misplaced`], [`Error::Unsupported`],
    /// [`Error::NeedsCheck`], [`Error::Malformed`].
    pub(super) fn parse(block: &Block) -> Result<Self, Error> {
        let mut remarks = Remarks::default();
        let (superblock, _) = Self::examine(block, &mut remarks)?;
        remarks.into_result().map(|()| superblock)
    }

    /// Reads block 0; also says where the metadata snapshot is, if there is one.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), but for what is only a remark: a metadata snapshot, and that a check is needed.
    pub(super) fn examine(
        block: &Block,
        remarks: &mut Remarks,
    ) -> Result<(Self, Option<u64>), Error> {
        // The kernel's own test, and before any other: all zeros is a device that the kernel would format. Everything
        // else is either a pool or somebody's data.
        if block.iter().all(|byte| *byte == 0) {
            return Err(Error::Unformatted);
        }
        let (raw, _) = RawSuperblock::ref_from_prefix(block).expect("a block has room");
        // Before the checksum, which any foreign block would fail: what was never a pool must not be told as a damaged
        // one.
        if raw.magic.get() != MAGIC {
            return Err(Error::Magic {
                magic: raw.magic.get(),
            });
        }
        verify(BlockKind::Superblock, 0, block)?;
        // Before any other field is believed: a feature may give them another meaning.
        check_features(raw, remarks)?;
        let superblock = Self {
            time: raw.time.get(),
            transaction_id: raw.trans_id.get(),
            data: SpaceMapRoot::parse(&raw.data_space_map_root),
            metadata: SpaceMapRoot::parse(&raw.metadata_space_map_root),
            mapping_root: raw.data_mapping_root.get(),
            details_root: raw.device_details_root.get(),
            data_block_size: Sectors(u64::from(raw.data_block_size.get())),
        };
        // A checksum that fits proves what was written, not that it makes sense. Sizes are checked here, once, and
        // roots where they are followed.
        superblock.check_ranges(raw)?;
        let held_root = raw.held_root.get();
        Ok((superblock, Some(held_root).filter(|held| *held != 0)))
    }

    fn check_ranges(&self, raw: &RawSuperblock) -> Result<(), Error> {
        let sectors = self.data_block_size.0;
        let sectors_fit = sectors != 0
            && sectors.is_multiple_of(DATA_BLOCK_SIZE_STEP)
            && sectors <= MAX_DATA_BLOCK_SIZE;
        let meta_sectors = raw.metadata_block_size.get();
        let data_blocks = self.data.nr_blocks;
        let meta_blocks = self.metadata.nr_blocks;
        for (field, value, fits) in [
            ("data_block_size", sectors, sectors_fit),
            (
                "metadata_block_size",
                u64::from(meta_sectors),
                meta_sectors == METADATA_BLOCK_SECTORS,
            ),
            (
                "data nr_blocks",
                data_blocks,
                data_blocks <= MAX_DATA_BLOCKS,
            ),
            (
                "metadata nr_blocks",
                meta_blocks,
                meta_blocks <= MAX_METADATA_BLOCKS.0,
            ),
        ] {
            if !fits {
                let fault = Fault::Field { field, value };
                return Err(malformed(0, BlockKind::Superblock, fault));
            }
        }
        Ok(())
    }
}

/// The roots of the two trees of devices in a metadata snapshot's superblock, which is a copy of the pool's made when the
/// snapshot was, without its space maps: mappings and details.
///
/// # Errors
///
/// [`Error::Checksum`], [`Error::Misplaced`].
pub(super) fn held_roots(nr: u64, block: &Block) -> Result<[u64; 2], Error> {
    verify(BlockKind::Superblock, nr, block)?;
    let (raw, _) = RawSuperblock::ref_from_prefix(block).expect("a block has room");
    Ok([raw.data_mapping_root.get(), raw.device_details_root.get()])
}

fn check_features(raw: &RawSuperblock, remarks: &mut Remarks) -> Result<(), Error> {
    let version = raw.version.get();
    if !(1..=VERSION).contains(&version) {
        return Err(Error::Unsupported(Feature::Version(version)));
    }
    // Only a remark: the kernel sets it after an operation on the metadata failed, and what is on the disk is still its
    // last commit.
    if raw.flags.get() & NEEDS_CHECK != 0 {
        remarks.add(Error::NeedsCheck);
    }
    for flags in [
        raw.flags.get() & !NEEDS_CHECK,
        // The kernel does not look at these: by their name, whoever does not know one may ignore it. A reader that has
        // to account for every block cannot.
        raw.compat_flags.get(),
        raw.compat_ro_flags.get(),
        raw.incompat_flags.get(),
    ] {
        if flags != 0 {
            return Err(Error::Unsupported(Feature::Flags(flags)));
        }
    }
    if raw.held_root.get() != 0 {
        remarks.add(Error::Unsupported(Feature::HeldRoot));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The superblock of an empty pool of 8 data blocks and 256 metadata blocks, time 3, transaction 5, as `thin_restore`
    /// 0.9.0 made it: the bytes that are not zero.
    pub(in crate::thin) const RESTORED: &[(usize, &[u8])] = &[
        (0, &[0x8a, 0xb9, 0xda, 0xda]),
        (32, &[0xba, 0x52, 0x9c, 0x01, 0, 0, 0, 0, 2, 0, 0, 0, 3]),
        (48, &[5]),
        (64, &[8]),
        (80, &[4, 0, 0, 0, 0, 0, 0, 0, 5]),
        (192, &[0, 1, 0, 0, 0, 0, 0, 0, 10]),
        (208, &[1, 0, 0, 0, 0, 0, 0, 0, 2]),
        (320, &[7, 0, 0, 0, 0, 0, 0, 0, 6]),
        (336, &[0x80, 0, 0, 0, 8, 0, 0, 0, 0, 1]),
    ];

    fn restored() -> Block {
        let mut block = [0; BLOCK_SIZE];
        for (at, bytes) in RESTORED {
            block[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        block
    }

    #[test]
    fn a_superblock_made_by_thin_restore_reads_as_told_and_encodes_the_same() {
        let superblock = Superblock::parse(&restored()).unwrap();
        let expected = Superblock {
            time: 3,
            transaction_id: 5,
            data: SpaceMapRoot {
                nr_blocks: 8,
                nr_allocated: 0,
                bitmap_root: 4,
                ref_count_root: 5,
            },
            metadata: SpaceMapRoot {
                nr_blocks: 256,
                nr_allocated: 10,
                bitmap_root: 1,
                ref_count_root: 2,
            },
            mapping_root: 7,
            details_root: 6,
            data_block_size: Sectors(128),
        };
        assert_eq!(superblock, expected);
        assert_eq!(superblock.encode(), restored());
    }

    #[test]
    fn a_superblock_says_why_it_is_refused() {
        let with = |at: usize, byte: u8| {
            let mut block = restored();
            block[at] = byte;
            seal(BlockKind::Superblock, 0, &mut block);
            Superblock::parse(&block).unwrap_err().to_string()
        };
        for (at, byte, message) in [
            (
                32,
                0,
                "metadata block 0 (superblock): not a thin pool, magic number 27021824",
            ),
            (
                40,
                3,
                "metadata block 0 (superblock): not supported: version 3",
            ),
            (
                4,
                1,
                "metadata block 0 (superblock): marked as needing a check, so the kernel makes the pool read-only; repair it (thin_check, thin_repair)",
            ),
            (
                360,
                2,
                "metadata block 0 (superblock): not supported: feature bits 0x2",
            ),
            (
                56,
                9,
                "metadata block 0 (superblock): not supported: a held metadata snapshot",
            ),
            (
                336,
                1,
                "metadata block 0 (superblock): data_block_size is 1",
            ),
            (
                198,
                1,
                "metadata block 0 (superblock): metadata nr_blocks is 281474976710912",
            ),
        ] {
            assert_eq!(with(at, byte), message);
        }
        let unformatted = Superblock::parse(&[0; BLOCK_SIZE]);
        assert!(matches!(unformatted, Err(Error::Unformatted)));
    }
}
