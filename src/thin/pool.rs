//! A thin pool's metadata as a value.

use super::format::{COUNTS_PER_BITMAP, MAX_METADATA_BITMAPS};
use super::id::ThinId;
use super::mapping::Mapping;
use crate::units::{DataBlocks, MetaBlocks, Sectors};

/// Largest metadata device: what the one index block of its space map covers, about 15.9 GiB. The kernel uses larger
/// ones up to here. Source: linux v6.6 `dm-space-map-metadata.h`, `DM_SM_METADATA_MAX_BLOCKS`.
pub const MAX_METADATA_BLOCKS: MetaBlocks =
    MetaBlocks((MAX_METADATA_BITMAPS * COUNTS_PER_BITMAP) as u64);

/// A thin device. Its virtual size is not part of the metadata: whoever activates it states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub id: ThinId,
    /// What it maps.
    pub mapping: Mapping,
    /// The pool's transaction id when it was created; information only.
    pub transaction_id: u64,
    /// The pool's time when it was created.
    pub creation_time: u32,
    /// The pool's time when it was last the origin or the result of a snapshot. The kernel takes a mapping for shared,
    /// and copies before it writes, if and only if the mapping's time is below this.
    pub snapshotted_time: u32,
}

/// The metadata of a whole pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Size of a data block: a multiple of 128 sectors (64 KiB).
    pub data_block_size: Sectors,
    /// Blocks of the data device. The kernel grows the map if the device is larger.
    pub nr_data_blocks: DataBlocks,
    /// Blocks of the metadata device, at most [`MAX_METADATA_BLOCKS`].
    pub nr_metadata_blocks: MetaBlocks,
    /// User space's transaction id; the kernel only compares it.
    pub transaction_id: u64,
    /// Snapshots taken so far; at least every time used anywhere in the pool.
    pub time: u32,
    /// Its devices, in any order.
    pub devices: Vec<Device>,
}
