//! Going through a mapping run by run.

use std::ops::Range;
use std::slice;
use std::sync::Arc;

use super::node::{Node, Run};
use super::tree::Mapping;

/// Consecutive thin blocks on consecutive data blocks, whenever they were mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedRun {
    /// The first thin block.
    pub thin_block: u64,
    /// The data block it is mapped to.
    pub data_block: u64,
    /// How many blocks; not zero.
    pub len: u64,
}

impl MappedRun {
    pub(super) fn of(run: Run) -> Self {
        Self {
            thin_block: run.thin_block(),
            data_block: run.value.data_block(),
            len: run.len(),
        }
    }

    /// The thin block behind the last.
    pub fn end(self) -> u64 {
        self.thin_block + self.len
    }

    /// What of it is in `range`; `None` if nothing is.
    pub(super) fn within(self, range: &Range<u64>) -> Option<Self> {
        let thin_block = self.thin_block.max(range.start);
        let end = self.end().min(range.end);
        (thin_block < end).then(|| Self {
            thin_block,
            data_block: self.data_block + (thin_block - self.thin_block),
            len: end - thin_block,
        })
    }

    fn goes_on_with(self, next: Self) -> bool {
        self.end() == next.thin_block && self.data_block + self.len == next.data_block
    }
}

impl Mapping {
    /// What of a range of thin blocks is mapped, ascending, in runs as long as can be. Costs what it yields, and the way
    /// there.
    pub fn runs(&self, range: Range<u64>) -> Runs<'_> {
        Runs {
            range,
            pending: vec![self.root()],
            leaf: slice::Iter::default(),
            next: None,
        }
    }
}

/// Runs of a [`Mapping`].
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    range: Range<u64>,
    /// Nodes not yet entered, the next one last.
    pending: Vec<&'a Arc<Node>>,
    leaf: slice::Iter<'a, Run>,
    /// A piece that did not go on where the last one ended.
    next: Option<MappedRun>,
}

impl Runs<'_> {
    /// The next run of a leaf.
    fn piece(&mut self) -> Option<MappedRun> {
        loop {
            let range = &self.range;
            let within = |run: &Run| MappedRun::of(*run).within(range);
            if let Some(piece) = self.leaf.by_ref().find_map(within) {
                return Some(piece);
            }
            match &**self.pending.pop()? {
                Node::Leaf(leaf) => {
                    let before = leaf.runs.partition_point(|run| run.end() <= range.start);
                    self.leaf = leaf.runs[before..].iter();
                }
                Node::Internal(internal) => {
                    let children = &internal.children;
                    let first = children.partition_point(|child| child.key <= range.start);
                    let end = children.partition_point(|child| child.key < range.end);
                    let inside = children[first.saturating_sub(1).min(end)..end].iter();
                    self.pending.extend(inside.rev().map(|child| &child.node));
                }
            }
        }
    }
}

impl Iterator for Runs<'_> {
    type Item = MappedRun;

    fn next(&mut self) -> Option<MappedRun> {
        let mut run = self.next.take().or_else(|| self.piece())?;
        while let Some(piece) = self.piece() {
            if !run.goes_on_with(piece) {
                self.next = Some(piece);
                break;
            }
            run.len += piece.len;
        }
        Some(run)
    }
}
