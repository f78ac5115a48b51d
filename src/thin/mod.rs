//! Thin-pool metadata, written in bulk.
//!
//! A [`Pool`] is the metadata of a whole new pool as a pure value: devices, each with a [`Mapping`] that shares what it
//! did not change with the device it came from. [`Pool::encode`] writes it without the kernel, [`read`] reads and checks
//! any pool's metadata. Neither knows what the devices hold. See `docs/thin-metadata.md`.

mod block_writer;
mod btree;
mod census;
mod checksum;
mod error;
mod format;
mod mapping;
mod pool;
mod reader;
mod ref_counts;
mod remarks;
mod sizing;
mod space_map;
mod space_map_check;
mod superblock;
mod tree_reader;
mod writer;

pub use checksum::BlockKind;
pub use error::{Error, Fault, Feature, SpaceMap};
pub use mapping::{Iter, Mapped, MappedRun, Mapping, Runs};
pub use pool::{Device, MAX_METADATA_BLOCKS, Pool, ThinId};
pub use reader::{
    Examined, ReadBlocks, begins_a_pool, devices_made, examine, read, read_steady, transaction_id,
};
pub use remarks::Remarks;
pub use sizing::{Estimate, device_size};
