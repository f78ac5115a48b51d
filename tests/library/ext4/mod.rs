//! ext4 file systems.

mod read;
mod write;

pub(crate) use write::{Structure, places};
