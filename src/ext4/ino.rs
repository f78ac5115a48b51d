//! Numbers of inodes.

/// An inode's number, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u32);

impl Ino {
    /// The root directory.
    pub const ROOT: Self = Self(2);
    pub(super) const JOURNAL: Self = Self(8);
    pub(super) const LOST_AND_FOUND: Self = Self(11);
}
