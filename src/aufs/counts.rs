//! How much a branch holds.

use crate::units::Bytes;

/// The amounts that a branch holds, without aufs's own files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The number of names, each hard link counted separately, without the root.
    pub entries: u64,
    /// The sum of the regular files' sizes, each file once, holes included.
    pub bytes: Bytes,
    /// Whiteouts.
    pub whiteouts: u64,
    /// Opaque markers.
    pub opaque_markers: u64,
}
