//! The conversion as a pure value: which thin device each layer becomes, what its file system holds, where every block
//! of it goes, and how large the pool must be. Nothing here reads or writes; [`Plan`] is what `--dry-run` prints.

mod compute;
mod error;
mod graph;
mod schedule;
mod size;

pub use compute::{DeviceIndex, Layer, Options, Plan, PlannedDevice, compute};
pub use error::Error;
pub use graph::{LayerGraph, LayerIndex};
