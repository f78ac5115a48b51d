//! Why a pool cannot be written, or metadata not be read.

use std::fmt;
use std::io;

use super::block_kind::BlockKind;
use super::id::{ThinId, ThinIdError};

/// What can go wrong with thin-pool metadata. The first group refuses a [`Pool`](super::pool::Pool) before anything was
/// written; the second comes from the devices; the third says what is wrong with metadata that was read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Device ids have 24 bits.
    #[error(transparent)]
    DeviceId(#[from] ThinIdError),
    /// Two devices of the pool have the same id.
    #[error("thin device {id}: defined twice")]
    DuplicateDevice {
        /// Their id.
        id: ThinId,
    },
    /// The size of data blocks is not a multiple of 64 KiB from 64 KiB to 1 GiB.
    #[error("data block size of {sectors} sectors: not a multiple of 128 from 128 to 2097152")]
    DataBlockSize {
        /// In 512-byte sectors.
        sectors: u64,
    },
    /// The data device has more blocks than a mapping can tell apart.
    #[error("data device of {blocks} blocks: more than 2^40")]
    TooManyDataBlocks {
        /// Data blocks asked for.
        blocks: u64,
    },
    /// The metadata device is larger than the kernel uses.
    #[error("metadata device of {blocks} blocks: the kernel uses at most {most}")]
    TooManyMetadataBlocks {
        /// Metadata blocks asked for.
        blocks: u64,
        /// The limit.
        most: u64,
    },
    /// The metadata device cannot hold the pool.
    #[error("metadata device of {available} blocks: the pool needs {needed}")]
    MetadataFull {
        /// Metadata blocks needed.
        needed: u64,
        /// Metadata blocks there are.
        available: u64,
    },
    /// The pool counts more snapshots than a mapping's time can express.
    #[error("pool time {time}: 2^24 snapshots or more")]
    TooManySnapshots {
        /// The pool's time.
        time: u32,
    },
    /// A later snapshot would take a time that is already in use, and the kernel would overwrite shared blocks.
    #[error("thin device {device}: time {time} is after the pool's, {pool_time}")]
    TimeAfterPool {
        /// The device with the time.
        device: ThinId,
        /// Its own time, or that of one of its mappings.
        time: u32,
        /// The pool's.
        pool_time: u32,
    },
    /// A mapping leads outside the data device.
    #[error(
        "thin device {device}: data block {data_block} is outside the {nr_data_blocks} of the pool"
    )]
    DataBlockOutOfRange {
        /// A device with the mapping.
        device: ThinId,
        /// Where it leads.
        data_block: u64,
        /// Data blocks there are.
        nr_data_blocks: u64,
    },
    /// The kernel would take a shared data block for the device's own and write to it in place.
    #[error(
        "thin device {device}: shared data block {data_block} of time {time} would be written in place; \
         the device's snapshot time is {snapshotted_time}"
    )]
    SharedBlockWritable {
        /// The device that would write.
        device: ThinId,
        /// The block that something else reads too.
        data_block: u64,
        /// The mapping's time.
        time: u32,
        /// The device's.
        snapshotted_time: u32,
    },

    /// The receiver of the blocks reported an error.
    #[error("metadata block {block}: cannot be written")]
    Write {
        /// First block of the piece.
        block: u64,
        /// What it reported.
        source: io::Error,
    },
    /// A block could not be read.
    #[error("metadata block {block} ({kind}): cannot be read")]
    Read {
        /// Its number.
        block: u64,
        /// What it should be.
        kind: BlockKind,
        /// What the device reported.
        source: io::Error,
    },

    /// Block 0 is all zeros: no pool was ever completed here.
    #[error("metadata block 0 (superblock): all zeros, so there is no pool")]
    Unformatted,
    /// Block 0 does not begin a thin pool.
    #[error("metadata block 0 (superblock): not a thin pool, magic number {magic}")]
    Magic {
        /// What stands in its place.
        magic: u64,
    },
    /// The pool has a property that this reader does not know how to respect.
    #[error("metadata block 0 (superblock): not supported: {0}")]
    Unsupported(Feature),
    /// The kernel found an inconsistency earlier and wants a repair first.
    #[error(
        "metadata block 0 (superblock): marked as needing a check, so the kernel makes the pool read-only; repair it (thin_check, thin_repair)"
    )]
    NeedsCheck,
    /// A block's content is not what was written.
    #[error("metadata block {block} ({kind}): checksum {computed:#010x}, stored {stored:#010x}")]
    Checksum {
        /// Its number.
        block: u64,
        /// What it should be.
        kind: BlockKind,
        /// The sum in the block.
        stored: u32,
        /// The sum of the block.
        computed: u32,
    },
    /// A sound block stands where another belongs.
    #[error("metadata block {block} ({kind}): says that it is block {found}")]
    Misplaced {
        /// Where it was read.
        block: u64,
        /// What it is.
        kind: BlockKind,
        /// The number it states itself.
        found: u64,
    },
    /// A block is undamaged, but its content contradicts the format.
    #[error("metadata block {block} ({kind}): {fault}")]
    Malformed {
        /// Its number.
        block: u64,
        /// What it is.
        kind: BlockKind,
        /// The contradiction.
        fault: Fault,
    },
    /// The tree of mappings and the tree of details do not hold the same devices.
    #[error("thin device {id}: in only one of the two device trees")]
    HalfDevice {
        /// Its number, not necessarily a valid one.
        id: u64,
    },
    /// A device's details do not agree with its mapping tree.
    #[error("thin device {id}: {counted} mappings, but its details state {stored}")]
    MappedBlocks {
        /// The device.
        id: ThinId,
        /// What the details say.
        stored: u64,
        /// What the tree holds.
        counted: u64,
    },
    /// A space map's count is not the number of references there are.
    #[error("{map} {block}: {counted} references, but the space map states {stored}")]
    RefCount {
        /// Which space map.
        map: SpaceMap,
        /// The block counted.
        block: u64,
        /// What the space map says.
        stored: u32,
        /// What was found.
        counted: u32,
    },
}

pub(super) fn malformed(block: u64, kind: BlockKind, fault: Fault) -> Error {
    Error::Malformed { block, kind, fault }
}

/// Properties of a pool that [`read`](super::read::read) refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Feature {
    /// A metadata format of another version.
    Version(u32),
    /// Feature bits, of which none is defined yet.
    Flags(u32),
    /// A snapshot of the metadata held for user space.
    HeldRoot,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "version {version}"),
            Self::Flags(bits) => write!(f, "feature bits {bits:#x}"),
            Self::HeldRoot => f.write_str("a held metadata snapshot"),
        }
    }
}

/// The two space maps of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceMap {
    /// References to data blocks.
    Data,
    /// References to metadata blocks.
    Metadata,
}

impl fmt::Display for SpaceMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data block",
            Self::Metadata => "metadata block",
        })
    }
}

/// How the content of a block contradicts the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A node is neither leaf nor internal.
    #[error("node flags {0:#x}")]
    NodeFlags(u32),
    /// A node's values have another size than its tree's.
    #[error("values of {0} bytes")]
    ValueSize(u32),
    /// A node has room for another number of entries than its value size gives.
    #[error("room for {0} entries")]
    MaxEntries(u32),
    /// A node is overfull, or one that is not a root is less than a third full.
    #[error("{0} entries")]
    NrEntries(u32),
    /// Keys do not ascend, or a child's keys leave the range its parent gives it.
    #[error("key {0} is out of order")]
    KeyOrder(u64),
    /// A device's number has more than 24 bits.
    #[error("device {0}")]
    DeviceId(u64),
    /// A tree is deeper than any can be, or its leaves differ in depth.
    #[error("tree of uneven or impossible depth")]
    Depth,
    /// A pointer leads outside the metadata device or to the superblock.
    #[error("points to metadata block {0}")]
    Pointer(u64),
    /// Something else points to a block that only one pointer may lead to.
    #[error("points to metadata block {0}, which something else also points to")]
    ReachedTwice(u64),
    /// A mapping's thin block lies beyond any device's end.
    #[error("maps thin block {0}")]
    ThinBlock(u64),
    /// A mapping leads outside the data device.
    #[error("maps to data block {0}")]
    DataBlock(u64),
    /// A field of the superblock is outside its range.
    #[error("{field} is {value}")]
    Field {
        /// The kernel's name of it.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// A space map's index disagrees with the bitmap on how many blocks are free, and where.
    #[error("index entry does not agree with its bitmap")]
    IndexEntry,
    /// A space map has too few or too many bitmaps for its size.
    #[error("{0} bitmaps")]
    NrBitmaps(u64),
    /// The space map's total does not agree with its bitmaps.
    #[error("{1} {0}s are counted as in use")]
    NrAllocated(SpaceMap, u64),
    /// A large count is missing, or stands for a block that the bitmap says has a small one.
    #[error("overflow count of block {0} is missing or superfluous")]
    Overflow(u64),
}
