//! Writes a layer's tree into a mounted file system that holds the merged tree of the layers below.

mod apply;
mod attributes;
mod copy;
mod directories;
mod entries;
mod error;
mod large;
mod links;
mod outline;
mod remove;
mod sync;
mod workers;

pub use apply::{ApplyOptions, DESCRIPTORS_PER_THREAD, apply, data_bytes, sync_files};
pub use error::{ClampedTime, Error};
