//! Nodes of a mapping tree, and how a change replaces them.
//!
//! A leaf keeps runs rather than entries, because a layer's data is mostly written in order: 16 bytes for up to 252
//! mappings, and never more than 16 bytes for one.

use std::iter::Peekable;
use std::slice;
use std::sync::Arc;

use super::data_place::{DataPlace, MAX_TIME};
use crate::thin::format::TIME_BITS;
use crate::thin::node_size::{max_entries, piece_sizes};

/// Entries a leaf or an internal node holds: values of 8 bytes.
pub(super) const MAX_ENTRIES: usize = max_entries(8);

/// A mapping's value as it is on disk: data block and time in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::thin) struct BlockTime(pub(in crate::thin) u64);

impl BlockTime {
    /// Both within their limits, which the caller knows.
    fn new(data_block: u64, time: u32) -> Self {
        Self(data_block << TIME_BITS | u64::from(time))
    }

    /// The same time, `n` data blocks on; `None` past the last that can be numbered.
    fn advanced(self, n: u64) -> Option<Self> {
        self.0.checked_add(n << TIME_BITS).map(Self)
    }

    pub(in crate::thin) fn data_block(self) -> u64 {
        self.0 >> TIME_BITS
    }

    pub(in crate::thin) fn time(self) -> u32 {
        u32::try_from(self.0 & u64::from(MAX_TIME - 1)).expect("24 bits fit")
    }

    pub(super) fn mapped(self) -> DataPlace {
        DataPlace {
            data_block: self.data_block(),
            time: self.time(),
        }
    }
}

/// A node of the tree.
#[derive(Debug)]
pub(in crate::thin) enum Node {
    Leaf(Leaf),
    Internal(Internal),
}

impl Node {
    /// Mappings in it and below it.
    pub(in crate::thin) fn len(&self) -> u64 {
        match self {
            Self::Leaf(leaf) => u64::from(leaf.len),
            Self::Internal(internal) => internal.len,
        }
    }

    /// Entries in the node itself.
    pub(in crate::thin) fn nr_entries(&self) -> usize {
        match self {
            Self::Leaf(leaf) => usize::from(leaf.len),
            Self::Internal(internal) => internal.children.len(),
        }
    }

    /// Its lowest key; `None` in the empty leaf.
    pub(in crate::thin) fn first_key(&self) -> Option<u64> {
        match self {
            Self::Leaf(leaf) => leaf.runs.first().map(|run| run.thin_block()),
            // May be lower than the child's own first key in a tree read from disk. The kernel searches by this one, so
            // it is kept.
            Self::Internal(internal) => internal.children.first().map(|child| child.key),
        }
    }

    /// The highest thin block mapped in it or below it.
    pub(in crate::thin) fn last_key(&self) -> Option<u64> {
        match self {
            Self::Leaf(leaf) => leaf.runs.last().map(|run| run.end() - 1),
            Self::Internal(internal) => internal.children.last()?.node.last_key(),
        }
    }

    /// The nodes that replace it once changed: one, or more if it overflows.
    pub(super) fn apply(&self, edit: Edit<'_>) -> Vec<Child> {
        match self {
            Self::Leaf(leaf) => leaf.apply(edit),
            Self::Internal(internal) => internal.apply(edit),
        }
    }
}

/// Changes to a subtree, at least one.
#[derive(Clone, Copy)]
pub(super) struct Edit<'a> {
    pub(super) changes: &'a [(u64, u64)],
    pub(super) time: u32,
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
pub(in crate::thin) struct Internal {
    len: u64,
    pub(in crate::thin) children: Box<[Child]>,
}

/// A pointer from an internal node; no key in the child is below `key`.
#[derive(Clone, Debug)]
pub(in crate::thin) struct Child {
    pub(in crate::thin) key: u64,
    pub(in crate::thin) node: Arc<Node>,
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
    pub(in crate::thin) fn new(children: Box<[Child]>) -> Self {
        Self {
            len: children.iter().map(|child| child.node.len()).sum(),
            children,
        }
    }

    /// The nodes of the level above these children.
    pub(super) fn pack(children: Vec<Child>) -> Vec<Child> {
        // Only whole children are regrouped, so a child that did not change stays shared wherever it ends up.
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
        // Each child takes the changes below the next child's key, as in the kernel's search. The first one also takes
        // those below its own key, which then moves down.
        let next_keys = self.children[1..].iter().map(|child| child.key);
        for (child, next_key) in self.children.iter().zip(next_keys.chain([u64::MAX])) {
            let own = edit.split_off_below(next_key);
            if own.changes.is_empty() {
                // Shared, not copied. Only the nodes on the way to a change are copied, because a pointer in each of
                // them changes.
                children.push(child.clone());
            } else {
                // All pieces have the height of the child they replace, so the leaves stay at one depth.
                children.append(&mut child.node.apply(own));
            }
        }
        // Nodes never lose entries: a single piece is at least as full as the old node, and several pieces are each at
        // least a third full. So nothing ever has to be rebalanced.
        Self::pack(children)
    }
}

/// A node with mappings.
#[derive(Debug, Default)]
pub(in crate::thin) struct Leaf {
    /// Mappings, at most 252.
    len: u8,
    pub(in crate::thin) runs: Box<[Run]>,
}

impl Leaf {
    /// A leaf with these entries, at most 252, keys ascending.
    pub(in crate::thin) fn new(entries: impl Iterator<Item = (u64, BlockTime)>) -> Self {
        // Entries are counted separately from runs: the limit of a leaf is in entries on disk.
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
    pub(in crate::thin) fn entries(&self) -> Entries<'_> {
        Entries {
            runs: self.runs.iter(),
            run: None,
        }
    }

    pub(super) fn get(&self, thin_block: u64) -> Option<DataPlace> {
        let after = self
            .runs
            .partition_point(|run| run.thin_block() <= thin_block);
        let run = self.runs[after.checked_sub(1)?];
        // Past the end of the run this value means nothing, and the filter drops it.
        let value = run.value.advanced(thin_block - run.thin_block());
        value
            .filter(|_| thin_block < run.end())
            .map(BlockTime::mapped)
    }

    fn apply(&self, edit: Edit<'_>) -> Vec<Child> {
        // Merge twice. Where to cut depends on the number of entries, which is known only once overwritten ones are
        // taken off, and a second pass needs no list.
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
pub(in crate::thin) struct Run {
    /// First thin block, above 8 bits with the length: a run never leaves its leaf, so 252 is the longest.
    head: u64,
    /// Of the first block.
    pub(in crate::thin) value: BlockTime,
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
        // Comparing packed values requires the next data block and the same time. The time must not be lost in a run:
        // by it the kernel decides whether to copy a block before writing to it.
        let fits = thin_block == self.end() && self.value.advanced(self.len()) == Some(value);
        self.head += u64::from(fits);
        fits
    }

    pub(super) fn thin_block(self) -> u64 {
        self.head >> 8
    }

    pub(in crate::thin) fn len(self) -> u64 {
        self.head & 0xff
    }

    pub(super) fn end(self) -> u64 {
        self.thin_block() + self.len()
    }
}

/// The entries of a leaf.
#[derive(Clone, Debug, Default)]
pub(in crate::thin) struct Entries<'a> {
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
            // An overwritten entry takes the new time as well. With the old one the kernel would take the block for
            // inherited and copy it needlessly.
            Some(old) if old.0 == key => drop(self.old.next()),
            _ => {}
        }
        self.new.changes = rest;
        Some((key, BlockTime::new(data_block, self.new.time)))
    }
}
