//! Plans ext4 file systems wholly in memory, a child derived from its parent, and encodes any of their metadata blocks.
//!
//! An [`Image`] is a persistent value: a [`Draft`] of it shares everything it does not change, so thousands of small
//! children cost little more than their parent. [`Draft::finish`] tells what a child has to write that its parent has
//! not ([`Delta`]): clusters of metadata, which [`Image::encode_cluster`] produces, and runs of file data, which the
//! caller fills from the source files. Nothing here does I/O, and nothing knows where layers come from.
//!
//! What of ext4 is written and why: `docs/ext4.md`. Layouts: `format.rs`.

mod checksum;
mod format;
mod hash;
mod ino;
mod params;
pub mod read;
pub mod write;

pub use ino::Ino;
pub use params::{Checksums, Params, Usage};
pub use write::{CLUSTER_BLOCKS, DataRun, Delta, Draft, Error, Extent, FileLayout, Image, Problem};
