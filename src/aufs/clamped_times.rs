//! Files of a branch with times that no ext4 file system holds.

use super::finding::Finding;
use super::inode::has_clamped_time;
use crate::sys::Stat;
use crate::tree::{LayerTree, NodeId};

/// The files that a walk has met so far.
#[derive(Debug, Default)]
pub(super) struct ClampedTimes {
    files: u64,
    first: Option<NodeId>,
}

impl ClampedTimes {
    /// Counts a node if one of its times is changed.
    pub(super) fn look(&mut self, node: NodeId, stat: &Stat) {
        if has_clamped_time(stat) {
            self.files += 1;
            self.first.get_or_insert(node);
        }
    }

    /// One finding for all of them.
    pub(super) fn finding(&self, tree: &LayerTree) -> Option<Finding> {
        let first = tree.path(self.first?).join(&b'/').into();
        let files = self.files;
        Some(Finding::ClampedTimes { first, files })
    }
}
