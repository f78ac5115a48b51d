//! The verification of one layer: its device is read and checked, compared with its parent and its branch, and its
//! contents are proven.

mod branch;
mod contents;
mod examine;
mod notes;
mod tree;

pub(super) use examine::{examine, open};
