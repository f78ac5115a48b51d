//! The mappings of one thin device, as a persistent tree.
//!
//! A [`Mapping`] has exactly the nodes that its b-tree will have on disk. Changing it copies the nodes on the way to the
//! changes and shares all others with the original, as the kernel does for a snapshot; so a chain of thousands of
//! layers costs, in memory and on disk, its changes. Mappings are never removed: nodes only grow and split, and every
//! node but a root stays at least a third full, which `thin_check` demands.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use super::data_place::{DataPlace, MAX_TIME};
use super::node::{Edit, Entries, Internal, Leaf, Node};
use crate::thin::format::MAX_DATA_BLOCKS;

/// Thin blocks are below this. No block device is larger than 2^63 bytes, which is 2^47 blocks of 64 KiB.
pub(in crate::thin) const MAX_THIN_BLOCKS: u64 = 1 << 47;

/// A map from thin blocks to [`DataPlace`] data blocks. Cloning is O(1) and shares everything.
#[derive(Clone)]
pub struct Mapping {
    root: Arc<Node>,
}

impl Mapping {
    /// A map of nothing. Each has its own root; to share one, clone it.
    pub fn new() -> Self {
        Self::from_root(Arc::new(Node::Leaf(Leaf::default())))
    }

    /// The map whose tree this is.
    pub(in crate::thin) fn from_root(root: Arc<Node>) -> Self {
        Self { root }
    }

    /// The top node of its tree.
    pub(in crate::thin) fn root(&self) -> &Arc<Node> {
        &self.root
    }

    /// Number of mapped thin blocks.
    pub fn len(&self) -> u64 {
        self.root.len()
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where a thin block is mapped to, `None` if it reads as zeros.
    pub fn get(&self, thin_block: u64) -> Option<DataPlace> {
        let mut node = &self.root;
        loop {
            match &**node {
                Node::Leaf(leaf) => return leaf.get(thin_block),
                Node::Internal(internal) => {
                    // The child with the last key not above this block. Nothing is mapped below the first key.
                    let after = internal.children.partition_point(|c| c.key <= thin_block);
                    node = &internal.children[after.checked_sub(1)?].node;
                }
            }
        }
    }

    /// All mappings, thin blocks ascending.
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            pending: vec![&self.root],
            entries: Entries::default(),
        }
    }

    /// This map with changes: pairs of thin block and data block, each added or overwriting, all with the same time.
    ///
    /// Copies only nodes on the way to a change. A map built from nothing in one step has full nodes.
    ///
    /// # Panics
    ///
    /// If thin blocks do not strictly ascend, or a thin block is not below 2^47, a data block not below 2^40, the time
    /// not below 2^24.
    #[must_use]
    pub fn with(&self, changes: &[(u64, u64)], time: u32) -> Self {
        assert!(time < MAX_TIME, "a time has 24 bits");
        assert!(
            changes.is_sorted_by(|a, b| a.0 < b.0),
            "changes ascend by thin block"
        );
        assert!(
            changes.last().is_none_or(|last| last.0 < MAX_THIN_BLOCKS),
            "a thin block has 47 bits"
        );
        assert!(
            changes.iter().all(|change| change.1 < MAX_DATA_BLOCKS),
            "a data block has 40 bits"
        );
        // Shares even the root, as the kernel does for a new snapshot. An edit without changes would copy it, and an
        // empty leaf has no key for the copy.
        if changes.is_empty() {
            return self.clone();
        }
        // A root that overflows comes back as several nodes, and many changes at once may need more than one level
        // above them. This is the only place where a tree grows in height.
        let mut level = self.root.apply(Edit { changes, time });
        while level.len() > 1 {
            level = Internal::pack(level);
        }
        let root = level.pop().expect("a changed tree has a node");
        Self::from_root(root.node)
    }
}

impl Default for Mapping {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Mapping {
    fn eq(&self, other: &Self) -> bool {
        // A shared root settles it. Other nodes do not help: equal maps may be divided into nodes differently.
        Arc::ptr_eq(&self.root, &other.root)
            || (self.len() == other.len() && self.iter().eq(other.iter()))
    }
}

impl Eq for Mapping {}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<'a> IntoIterator for &'a Mapping {
    type Item = (u64, DataPlace);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The mappings of a [`Mapping`], thin blocks ascending.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    /// Nodes not yet entered, the next one last.
    pending: Vec<&'a Arc<Node>>,
    entries: Entries<'a>,
}

impl Iterator for Iter<'_> {
    type Item = (u64, DataPlace);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((thin_block, value)) = self.entries.next() {
                return Some((thin_block, value.mapped()));
            }
            match &**self.pending.pop()? {
                Node::Leaf(leaf) => self.entries = leaf.entries(),
                Node::Internal(internal) => {
                    // Reversed so that the lowest child is popped next.
                    self.pending
                        .extend(internal.children.iter().rev().map(|child| &child.node));
                }
            }
        }
    }
}
