//! Writes a plan: the pool's data and metadata files.

pub mod direct;
pub mod kernel;
mod progress;

pub use progress::{Cancel, Phase, Progress};
