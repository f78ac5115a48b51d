//! A plan: which thin devices there will be.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::devicemapper::driver_files::FileSystem;
use crate::ext4::Checksums;
use crate::source::Layer;
use crate::thin::ThinId;
use crate::tree::Timestamp;
use crate::units::Bytes;

/// The conversion as a value: what there will be, but not where each block of it goes. That is up to the engine, or in the
/// [`Layout`](super::layout::Layout).
#[derive(Debug)]
pub struct Plan {
    /// What the devices hold.
    pub file_system: FileSystem,
    /// Virtual size of every device.
    pub base_size: Bytes,
    /// Bytes of the file system for each inode in its tables; of no meaning for xfs, which has no tables.
    pub bytes_per_inode: u32,
    /// The pool's transaction id before the first device is made.
    pub transaction_before: u64,
    /// The base device, then a device per layer, parents before children.
    pub devices: Vec<PlannedDevice>,
}

impl Plan {
    /// The pool's transaction id once all devices exist.
    pub fn transaction_id(&self) -> u64 {
        // A pool this far gone refuses the first transaction.
        self.transaction_before
            .saturating_add(self.devices.len() as u64)
    }
}

/// One thin device of the pool to be.
#[derive(Debug)]
pub struct PlannedDevice {
    /// The layer it becomes; `None` for the base device.
    pub layer: Option<Layer>,
    /// The device it is a snapshot of; `None` for the base device.
    pub parent: Option<DeviceIndex>,
    /// The pool's number for it.
    pub thin_id: ThinId,
    /// The transaction that creates it.
    pub transaction_id: u64,
}

/// A device's place in [`Plan::devices`]: 0 is the base device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceIndex(pub usize);

/// What is chosen of a plan.
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

/// What the operator chose, and what must not differ between two computations of one plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// What is chosen.
    #[serde(flatten)]
    pub choices: Choices,
    /// The pool's transaction id before the first device is made: 0 in a new pool.
    pub transaction_before: u64,
    /// UUID of the base file system, which all layers share.
    pub uuid: Uuid,
    /// Seed of the directory hash, shared likewise.
    pub hash_seed: [u32; 4],
    /// When the file systems were made.
    pub created: Timestamp,
}
