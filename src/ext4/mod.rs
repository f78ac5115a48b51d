//! Plans ext4 file systems wholly in memory, a child derived from its parent, and encodes any of their metadata blocks.
//!
//! An [`Image`] is a persistent value: a [`Draft`] of it shares everything it does not change, so thousands of small
//! children cost little more than their parent. [`Draft::finish`] tells what a child has to write that its parent has
//! not ([`Delta`]): clusters of metadata, which [`Image::encode_cluster`] produces, and runs of file data, which the
//! caller fills from the source files. Nothing here does I/O, and nothing knows where layers come from.
//!
//! What of ext4 is written and why: `docs/ext4.md`. Layouts: `format.rs`.

mod alloc;
mod bitmap;
mod checksum;
mod dir;
mod dirent;
mod draft;
mod encode;
mod error;
mod extents;
mod format;
mod group;
mod hash;
mod image;
mod inode;
mod inode_table;
mod layout;
mod params;
pub mod read;
mod superblock;
mod xattr;

pub use draft::{DataRun, Delta, Draft};
pub use error::{Error, Problem};
pub use extents::Extent;
pub use image::{FileLayout, Image};
pub use inode::Ino;
pub use layout::CLUSTER_BLOCKS;
pub use params::{Checksums, Params, Usage};
