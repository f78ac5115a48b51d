//! Directories: their entries in blocks, linear or as a hash tree.

mod directory;
mod htree;
mod rules;

pub(super) use directory::Dir;
pub(super) use rules::{ChangedBlocks, Rules};
