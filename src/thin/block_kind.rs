//! The kinds of metadata blocks.

use std::fmt;

/// The kinds of block in thin-pool metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Block 0.
    Superblock,
    /// A node of any b-tree.
    Node,
    /// Reference counts of a space map, two bits each.
    Bitmap,
    /// The metadata space map's list of bitmaps.
    Index,
}

impl BlockKind {
    /// Mixed into the checksum, so that a block of another kind does not pass. Source: linux v6.6 `drivers/md/`.
    pub(super) const fn salt(self) -> u32 {
        match self {
            Self::Superblock => 160_774,
            Self::Node => 121_107,
            Self::Bitmap => 240_779,
            Self::Index => 160_478,
        }
    }
}

impl fmt::Display for BlockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Superblock => "superblock",
            Self::Node => "b-tree node",
            Self::Bitmap => "bitmap",
            Self::Index => "space map index",
        })
    }
}
