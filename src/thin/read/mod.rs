//! The reading wing: reads a pool's metadata back, checks all of it, and shares no code with the writing wing.

mod btree;
mod metadata;
mod node;
pub(super) mod space_map;

pub use btree::ReadBlocks;
pub use metadata::{
    PoolReading, begins_a_pool, devices_made, examine, read, read_steady, transaction_id,
};
