//! The writing wing: lays a pool's metadata out and writes it as a whole.

mod block_writer;
mod btree;
mod census;
mod metadata;
mod sizing;
mod space_map;

pub use sizing::{Estimate, device_size};
