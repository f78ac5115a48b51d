//! Whose a block is.

use crate::ext4::ino::Ino;

/// What a run of blocks is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// Attribute blocks, which many inodes share, have the first one's.
    pub(super) ino: Ino,
    pub(super) part: Part,
    /// The run's first block's number in the file or directory.
    pub(super) logical: u32,
}

/// What of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A file's bytes or a symbolic link's target.
    Data,
    Directory,
    /// A node of its extent tree or block map.
    Node,
    Xattrs,
}

impl Owner {
    /// Of a block that is none of the content.
    pub(super) fn new(ino: Ino, part: Part) -> Self {
        Self {
            ino,
            part,
            logical: 0,
        }
    }
}

/// A run that something has, by its first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) blocks: u64,
    pub(super) owner: Owner,
}
