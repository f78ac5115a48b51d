//! The small files that Docker's devicemapper driver keeps beside its pool, and its names for devices.

mod decode;
mod encode;

pub use decode::{DecodeError, DeviceRecord, DeviceSetRecord, OpenTransaction};
pub use encode::{
    BASE_FILE, DEFAULT_BASE_SIZE, DEFAULT_BLOCK_SIZE, DEFAULT_DATA_SIZE, DEFAULT_METADATA_SIZE,
    DEVICE_SET_FILE, Device, DeviceId, DeviceSet, FileSystem, PoolName, SetupHint,
    TRANSACTION_FILE, Transaction, daemon_settings,
};
