//! Writes a plan: the pool's data and metadata files.

mod checkpoint;
pub mod direct;
pub mod kernel;
mod left_file;

pub use checkpoint::{Checkpoint, CheckpointError, Checkpoints, NoCheckpoint};
pub use left_file::Error as LeftFileError;
