//! Writes a plan: the pool's data and metadata files.

pub mod direct;
mod progress;

pub use progress::{Cancel, Phase, Progress};
