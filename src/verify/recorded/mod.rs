//! Compares a layer's entries with the headers of its tar.

mod headers;
mod xattrs;

pub(super) use headers::{branch_faults, inode_faults, nr_names};
