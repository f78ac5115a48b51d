//! Thin-pool metadata, written in bulk.
//!
//! A [`Pool`] is the metadata of a whole new pool as a pure value: devices, each with a [`Mapping`] that shares what it
//! did not change with the device it came from. [`Pool::encode`] writes it without the kernel, [`read`] reads and checks
//! any pool's metadata. Neither knows what the devices hold. See `docs/thin-metadata.md`.

mod block_kind;
mod checksum;
mod error;
mod format;
mod id;
mod mapping;
mod node_size;
mod pool;
mod read;
mod ref_counts;
mod remarks;
mod superblock;
mod write;

pub use block_kind::BlockKind;
pub use error::{Error, Fault, Feature, SpaceMap};
pub use id::{ThinId, ThinIdError};
pub use mapping::{DataPlace, Iter, MappedRun, Mapping, Runs};
pub use pool::{Device, MAX_METADATA_BLOCKS, Pool};
pub use read::{
    PoolReading, ReadBlocks, begins_a_pool, devices_made, examine, read, read_steady,
    transaction_id,
};
pub use remarks::Remarks;
pub use write::{Estimate, device_size};
