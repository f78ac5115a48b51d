//! A thin pool's metadata as a value.

use std::fmt;

use super::error::Error;
use super::format::{COUNTS_PER_BITMAP, MAX_METADATA_BITMAPS};
use super::mapping::Mapping;
use crate::units::{DataBlocks, MetaBlocks, Sectors};

/// Largest metadata device: what the one index block of its space map covers, about 15.9 GiB. The kernel uses larger
/// ones up to here. Source: linux v6.6 `dm-space-map-metadata.h`, `DM_SM_METADATA_MAX_BLOCKS`.
pub const MAX_METADATA_BLOCKS: MetaBlocks =
    MetaBlocks((MAX_METADATA_BITMAPS * COUNTS_PER_BITMAP) as u64);

/// A thin device's number in its pool: 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThinId(u32);

impl ThinId {
    /// The largest.
    pub const MAX: Self = Self((1 << 24) - 1);

    /// The device with this number.
    ///
    /// # Errors
    ///
    /// [`Error::DeviceId`] above [`ThinId::MAX`].
    pub const fn new(id: u32) -> Result<Self, Error> {
        if id > Self::MAX.0 {
            return Err(Error::DeviceId { id });
        }
        Ok(Self(id))
    }

    /// The number.
    pub const fn value(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ThinId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_id_has_24_bits() {
        assert_eq!(ThinId::new(0xff_ffff).unwrap(), ThinId::MAX);
        assert!(matches!(
            ThinId::new(0x100_0000),
            Err(Error::DeviceId { id: 0x100_0000 })
        ));
    }

    #[test]
    fn the_kernel_uses_at_most_4161600_metadata_blocks() {
        assert_eq!(MAX_METADATA_BLOCKS, MetaBlocks(4_161_600));
    }
}
