//! Writes a plan: the pool's data and metadata, by one of two engines.

mod checkpoint;
mod device_files;
pub mod direct;
mod error;
mod job;
pub mod kernel;
mod left_file;
mod written_pool;

pub use checkpoint::{Checkpoint, CheckpointError, Checkpoints, NoCheckpoint};
pub use error::{Error, ErrorKind};
pub use job::{Engine, Job, Options, Place, PoolUsage};
pub use left_file::Error as LeftFileError;
pub use written_pool::{Outside, WrittenPool, WrittenRun};
