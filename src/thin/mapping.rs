//! The mappings of one thin device, as a persistent tree.
//!
//! A [`Mapping`] has exactly the nodes that its b-tree will have on disk. Changing it copies the nodes on the way to the
//! changes and shares all others with the original, as the kernel does for a snapshot; so a chain of thousands of
//! layers costs, in memory and on disk, its changes. Mappings are never removed: nodes only grow and split, and every
//! node but a root stays at least a third full, which `thin_check` demands.
//!
//! A leaf keeps runs rather than entries, because a layer's data is mostly written in order: 16 bytes for up to 252
//! mappings, and never more than 16 bytes for one.

use std::fmt;
use std::iter::Peekable;
use std::slice;
use std::sync::Arc;

use super::btree::{max_entries, piece_sizes};
use super::format::{MAX_DATA_BLOCKS, TIME_BITS};

#[cfg(test)]
mod tests;

/// Entries a leaf or an internal node holds: values of 8 bytes.
const MAX_ENTRIES: usize = max_entries(8);

/// Thin blocks are below this. No block device is larger than 2^63 bytes, which is 2^47 blocks of 64 KiB.
pub(super) const MAX_THIN_BLOCKS: u64 = 1 << 47;

/// A time in a mapping is below this.
pub(super) const MAX_TIME: u32 = 1 << TIME_BITS;

/// Where a thin block's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Data block of the pool, below 2^40.
    pub data_block: u64,
    /// The pool's time when it was mapped, below 2^24.
    pub time: u32,
}

/// A map from thin blocks to [`Mapped`] data blocks. Cloning is O(1) and shares everything.
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
    pub(super) fn from_root(root: Arc<Node>) -> Self {
        Self { root }
    }

    /// The top node of its tree.
    pub(super) fn root(&self) -> &Arc<Node> {
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
    pub fn get(&self, thin_block: u64) -> Option<Mapped> {
        let mut node = &self.root;
        loop {
            match &**node {
                Node::Leaf(leaf) => return leaf.get(thin_block),
                Node::Internal(internal) => {
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
        if changes.is_empty() {
            return self.clone();
        }
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
    type Item = (u64, Mapped);
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
    type Item = (u64, Mapped);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((thin_block, value)) = self.entries.next() {
                return Some((thin_block, value.mapped()));
            }
            match &**self.pending.pop()? {
                Node::Leaf(leaf) => self.entries = leaf.entries(),
                Node::Internal(internal) => {
                    self.pending
                        .extend(internal.children.iter().rev().map(|child| &child.node));
                }
            }
        }
    }
}

/// A mapping's value as it is on disk: data block and time in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockTime(pub(super) u64);

impl BlockTime {
    /// Both within their limits, which the caller knows.
    fn new(data_block: u64, time: u32) -> Self {
        Self(data_block << TIME_BITS | u64::from(time))
    }

    /// The same time, `n` data blocks on; `None` past the last that can be numbered.
    fn advanced(self, n: u64) -> Option<Self> {
        self.0.checked_add(n << TIME_BITS).map(Self)
    }

    pub(super) fn data_block(self) -> u64 {
        self.0 >> TIME_BITS
    }

    pub(super) fn time(self) -> u32 {
        u32::try_from(self.0 & u64::from(MAX_TIME - 1)).expect("24 bits fit")
    }

    fn mapped(self) -> Mapped {
        Mapped {
            data_block: self.data_block(),
            time: self.time(),
        }
    }
}

/// A node of the tree.
#[derive(Debug)]
pub(super) enum Node {
    Leaf(Leaf),
    Internal(Internal),
}

impl Node {
    /// Mappings in it and below it.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Leaf(leaf) => u64::from(leaf.len),
            Self::Internal(internal) => internal.len,
        }
    }

    /// Entries in the node itself.
    pub(super) fn nr_entries(&self) -> usize {
        match self {
            Self::Leaf(leaf) => usize::from(leaf.len),
            Self::Internal(internal) => internal.children.len(),
        }
    }

    /// Its lowest key; `None` in the empty leaf.
    pub(super) fn first_key(&self) -> Option<u64> {
        match self {
            Self::Leaf(leaf) => leaf.runs.first().map(|run| run.thin_block()),
            Self::Internal(internal) => internal.children.first().map(|child| child.key),
        }
    }

    /// The highest thin block mapped in it or below it.
    pub(super) fn last_key(&self) -> Option<u64> {
        match self {
            Self::Leaf(leaf) => leaf.runs.last().map(|run| run.end() - 1),
            Self::Internal(internal) => internal.children.last()?.node.last_key(),
        }
    }

    /// The nodes that replace it once changed: one, or more if it overflows.
    fn apply(&self, edit: Edit<'_>) -> Vec<Child> {
        match self {
            Self::Leaf(leaf) => leaf.apply(edit),
            Self::Internal(internal) => internal.apply(edit),
        }
    }
}

/// Changes to a subtree, at least one.
#[derive(Clone, Copy)]
struct Edit<'a> {
    changes: &'a [(u64, u64)],
    time: u32,
}

impl<'a> Edit<'a> {
    /// The changes below `key`, taken off.
    fn split_off_below(&mut self, key: u64) -> Edit<'a> {
        let (below, rest) = self
            .changes
            .split_at(self.changes.partition_point(|change| change.0 < key));
        self.changes = rest;
        Edit {
            changes: below,
            time: self.time,
        }
    }
}

/// A node with children, all of one height.
#[derive(Debug)]
pub(super) struct Internal {
    len: u64,
    pub(super) children: Box<[Child]>,
}

/// A pointer from an internal node; no key in the child is below `key`.
#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) key: u64,
    pub(super) node: Arc<Node>,
}

impl Child {
    fn new(node: Node) -> Self {
        Self {
            key: node.first_key().expect("only a root is empty"),
            node: Arc::new(node),
        }
    }
}

impl Internal {
    /// A node over these children.
    pub(super) fn new(children: Box<[Child]>) -> Self {
        Self {
            len: children.iter().map(|child| child.node.len()).sum(),
            children,
        }
    }

    /// The nodes of the level above these children.
    fn pack(children: Vec<Child>) -> Vec<Child> {
        let sizes = piece_sizes(children.len(), MAX_ENTRIES);
        let mut rest = children.into_iter();
        sizes
            .map(|size| {
                let children = rest.by_ref().take(size).collect();
                Child::new(Node::Internal(Self::new(children)))
            })
            .collect()
    }

    fn apply(&self, mut edit: Edit<'_>) -> Vec<Child> {
        let mut children = Vec::with_capacity(self.children.len() + 1);
        let next_keys = self.children[1..].iter().map(|child| child.key);
        for (child, next_key) in self.children.iter().zip(next_keys.chain([u64::MAX])) {
            let own = edit.split_off_below(next_key);
            if own.changes.is_empty() {
                children.push(child.clone());
            } else {
                children.append(&mut child.node.apply(own));
            }
        }
        Self::pack(children)
    }
}

/// A node with mappings.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    /// Mappings, at most 252.
    len: u8,
    pub(super) runs: Box<[Run]>,
}

impl Leaf {
    /// A leaf with these entries, at most 252, keys ascending.
    pub(super) fn new(entries: impl Iterator<Item = (u64, BlockTime)>) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        let mut len = 0;
        for (thin_block, value) in entries {
            len += 1;
            if !runs
                .last_mut()
                .is_some_and(|run| run.extend(thin_block, value))
            {
                runs.push(Run::new(thin_block, value));
            }
        }
        Self {
            len,
            runs: runs.into_boxed_slice(),
        }
    }

    /// Its entries, keys ascending.
    pub(super) fn entries(&self) -> Entries<'_> {
        Entries {
            runs: self.runs.iter(),
            run: None,
        }
    }

    fn get(&self, thin_block: u64) -> Option<Mapped> {
        let after = self
            .runs
            .partition_point(|run| run.thin_block() <= thin_block);
        let run = self.runs[after.checked_sub(1)?];
        let value = run.value.advanced(thin_block - run.thin_block());
        value
            .filter(|_| thin_block < run.end())
            .map(BlockTime::mapped)
    }

    fn apply(&self, edit: Edit<'_>) -> Vec<Child> {
        let merged = || Merge {
            old: self.entries().peekable(),
            new: edit,
        };
        let mut entries = merged();
        piece_sizes(merged().count(), MAX_ENTRIES)
            .map(|size| Child::new(Node::Leaf(Self::new(entries.by_ref().take(size)))))
            .collect()
    }
}

/// Consecutive thin blocks mapped to consecutive data blocks at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// First thin block, above 8 bits with the length: a run never leaves its leaf, so 252 is the longest.
    head: u64,
    /// Of the first block.
    pub(super) value: BlockTime,
}

impl Run {
    fn new(thin_block: u64, value: BlockTime) -> Self {
        Self {
            head: thin_block << 8 | 1,
            value,
        }
    }

    /// Takes the entry in if it goes on where the run ends.
    fn extend(&mut self, thin_block: u64, value: BlockTime) -> bool {
        let fits = thin_block == self.end() && self.value.advanced(self.len()) == Some(value);
        self.head += u64::from(fits);
        fits
    }

    fn thin_block(self) -> u64 {
        self.head >> 8
    }

    pub(super) fn len(self) -> u64 {
        self.head & 0xff
    }

    fn end(self) -> u64 {
        self.thin_block() + self.len()
    }
}

/// The entries of a leaf.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries<'a> {
    runs: slice::Iter<'a, Run>,
    /// The run that is being told, and how much of it was.
    run: Option<(Run, u64)>,
}

impl Iterator for Entries<'_> {
    type Item = (u64, BlockTime);

    fn next(&mut self) -> Option<Self::Item> {
        let (run, told) = match self.run {
            Some((run, told)) if told < run.len() => (run, told),
            _ => (*self.runs.next()?, 0),
        };
        self.run = Some((run, told + 1));
        let value = run.value.advanced(told);
        Some((
            run.thin_block() + told,
            value.expect("a run was made of such values"),
        ))
    }
}

/// The entries of a changed leaf.
struct Merge<'a> {
    old: Peekable<Entries<'a>>,
    new: Edit<'a>,
}

impl Iterator for Merge<'_> {
    type Item = (u64, BlockTime);

    fn next(&mut self) -> Option<Self::Item> {
        let Some((&(key, data_block), rest)) = self.new.changes.split_first() else {
            return self.old.next();
        };
        match self.old.peek() {
            Some(old) if old.0 < key => return self.old.next(),
            Some(old) if old.0 == key => drop(self.old.next()),
            _ => {}
        }
        self.new.changes = rest;
        Some((key, BlockTime::new(data_block, self.new.time)))
    }
}
