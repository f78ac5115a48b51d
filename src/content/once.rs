//! Limits how often a file is read again.

use std::collections::HashSet;
use std::hash::Hash;

/// Number of bytes that a layer's record may cause to be read a second time. There may be a tar whose names lead to one
/// file through symbolic links.
const ROOM: u64 = 64 * 1024 * 1024;

/// The files already read, so that a record with a million names for one file costs no more than that file.
#[derive(Debug)]
pub(super) struct Once<N> {
    read: HashSet<N>,
    room: u64,
}

impl<N> Default for Once<N> {
    fn default() -> Self {
        Self {
            read: HashSet::new(),
            room: ROOM,
        }
    }
}

impl<N: Eq + Hash> Once<N> {
    /// Counts a file as read.
    pub(super) fn note(&mut self, file: N) {
        self.read.insert(file);
    }

    /// Whether a file of this size may be read now.
    pub(super) fn may_read(&mut self, file: N, bytes: u64) -> bool {
        if self.read.insert(file) {
            return true;
        }
        let room = self.room.checked_sub(bytes);
        self.room = room.unwrap_or(self.room);
        room.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_as_long_as_there_is_room() {
        let mut once = Once::default();
        assert!(once.may_read(1, u64::MAX));
        assert!(once.may_read(1, ROOM - 1));
        assert!(!once.may_read(1, 2));
        assert!(once.may_read(2, u64::MAX));
        once.note(3);
        assert!(!once.may_read(3, 2));
    }
}
