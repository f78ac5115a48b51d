//! Writes a plan: the pool's data and metadata files.

mod cursor;
pub mod direct;
pub mod kernel;
mod progress;
mod source;

pub use progress::{Cancel, Phase, Progress};
pub use source::Error as SourceError;
