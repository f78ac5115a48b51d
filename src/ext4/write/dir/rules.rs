//! What all directories of a file system have in common.

use crate::ext4::checksum::Summer;
use crate::ext4::write::dirent::{self, Entry};

/// Bytes of `.` and `..` in a block.
const DOTS: usize = 24;

/// What the encoding of all directories of a file system depends on.
#[derive(Clone, Copy, Debug)]
pub(in crate::ext4::write) struct Rules {
    pub(in crate::ext4::write) summer: Summer,
    pub(in crate::ext4::write) seed: [u32; 4],
}

impl Rules {
    /// Bytes for names in the only block of a plain directory.
    pub(super) fn linear_room(&self) -> usize {
        dirent::room(self.summer.is_full()) - DOTS
    }
}

/// Blocks of one directory that changed, by their number in it; a block may stand there twice.
pub(in crate::ext4::write) type ChangedBlocks = Vec<u32>;

/// A packed list with one entry more.
pub(super) fn with(packed: &[u8], entry: &Entry<'_>) -> Box<[u8]> {
    let mut all = Vec::with_capacity(packed.len() + entry.packed_bytes());
    all.extend_from_slice(packed);
    entry.pack(&mut all);
    all.into()
}
