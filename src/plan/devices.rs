//! A plan: the thin devices that a conversion will make.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::devicemapper::driver_files::FileSystem;
use crate::ext4::Checksums;
use crate::source::Layer;
use crate::thin::ThinId;
use crate::tree::Timestamp;
use crate::units::Bytes;

/// The conversion as a value: what will be made, but not the place of each block. The engine decides that, or the
/// [`Layout`](super::layout::Layout) contains it.
#[derive(Debug)]
pub struct Plan {
    /// The file system on the devices.
    pub file_system: FileSystem,
    /// Virtual size of every device.
    pub base_size: Bytes,
    /// The number of bytes of the file system for each inode in its tables; meaningless for xfs, which has no tables.
    pub bytes_per_inode: u32,
    /// The pool's transaction id before the first device is made.
    pub transaction_before: u64,
    /// The base device, then a device per layer, parents before children.
    pub devices: Vec<PlannedDevice>,
}

impl Plan {
    /// The pool's transaction id once all devices exist.
    pub fn transaction_id(&self) -> u64 {
        // A pool that has come this far refuses the first transaction.
        self.transaction_before
            .saturating_add(self.devices.len() as u64)
    }
}

/// One thin device of the future pool.
#[derive(Debug)]
pub struct PlannedDevice {
    /// The layer it becomes; `None` for the base device.
    pub layer: Option<Layer>,
    /// The device it is a snapshot of; `None` for the base device.
    pub parent: Option<DeviceIndex>,
    /// Its id in the pool.
    pub thin_id: ThinId,
    /// The transaction that creates it.
    pub transaction_id: u64,
}

/// A device's index in [`Plan::devices`]: 0 is the base device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceIndex(pub usize);

/// The choices that a plan depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choices {
    /// `dm.basesize`; `None`: Docker's default, or what the layers need.
    pub base_size: Option<Bytes>,
    /// Size of the pool's data file; `None`: Docker's default, or what the layers need.
    pub data_size: Option<Bytes>,
    /// Size of the pool's metadata file; `None`: Docker's default, or what the pool needs.
    pub metadata_size: Option<Bytes>,
    /// Which checksums the file systems carry.
    pub checksums: Checksums,
}

/// What the operator chose, and what must be the same each time a plan is computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The choices.
    #[serde(flatten)]
    pub choices: Choices,
    /// The pool's transaction id before the first device is made: 0 in a new pool.
    pub transaction_before: u64,
    /// UUID of the base file system, which all layers share.
    pub uuid: Uuid,
    /// The seed of the directory hash, which all layers share as well.
    pub hash_seed: [u32; 4],
    /// The creation time of the file systems.
    pub created: Timestamp,
}
