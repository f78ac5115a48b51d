//! Writes a plan: the pool's data and metadata files.

mod checkpoint;
mod cursor;
pub mod direct;
pub mod kernel;
mod left_file;
mod progress;
mod source;

pub use checkpoint::{Checkpoint, Checkpoints, NoCheckpoint, NotNoted};
pub use left_file::Error as LeftFileError;
pub use progress::{Cancel, Phase, Progress, Silent};
pub(crate) use source::BranchReader;
pub use source::Error as SourceError;
