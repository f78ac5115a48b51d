//! The writing wing: file systems as persistent values, and any metadata block of them encoded on demand.
//!
//! It shares the structures of `format.rs` and the checksums with the reading wing, and nothing else: the
//! reader judges what is written here.

mod alloc;
mod bitmap;
mod dir;
mod dirent;
mod draft;
mod encode;
mod error;
mod extents;
mod group;
mod image;
mod inode;
mod inode_table;
mod layout;
mod superblock;
mod xattr;

pub use draft::{DataRun, Delta, Draft, EntryProblem, problems_of};
pub use error::{Error, Problem};
pub use extents::Extent;
pub use image::{FileLayout, Image};
pub use layout::CLUSTER_BLOCKS;
