//! In which thin blocks two mappings differ.
//!
//! Mappings of one pool share the nodes of their trees. Both are gone through at once, in the order of their keys, and
//! where both come to the same node it is passed over. So it costs the nodes that are not shared, and the way to them.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use super::node::Node;
use super::runs::MappedRun;
use super::tree::Mapping;

impl Mapping {
    /// The ranges of thin blocks, ascending, that read otherwise from `other`: mapped to another data block, or by one of
    /// the two only. When they were mapped does not matter.
    ///
    /// Costs what differs, as far as the two share nodes: made of each other, or read at once.
    pub fn changed(&self, other: &Self) -> Vec<Range<u64>> {
        let mut comparison = Comparison::new(self, other);
        while comparison.step() {}
        comparison.changed
    }
}

/// A node that was not looked into yet, or what is left of a run.
#[derive(Clone, Copy, Debug)]
enum Part<'a> {
    Node { node: &'a Arc<Node>, height: u32 },
    Run(MappedRun),
}

/// What of one mapping is still to be compared, the next part last.
#[derive(Debug)]
struct Side<'a>(Vec<Part<'a>>);

/// Two mappings, compared up to some thin block.
#[derive(Debug)]
pub(super) struct Comparison<'a> {
    a: Side<'a>,
    b: Side<'a>,
    changed: Vec<Range<u64>>,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(a: &'a Mapping, b: &'a Mapping) -> Self {
        Self {
            a: Side::new(a),
            b: Side::new(b),
            changed: Vec::new(),
        }
    }

    /// Goes on by a node or a run; returns whether there was one.
    pub(super) fn step(&mut self) -> bool {
        let (Some(a), Some(b)) = (self.a.0.last().copied(), self.b.0.last().copied()) else {
            return self.step_alone();
        };
        match (a, b) {
            // Both sides were compared up to this node's first key before it came to the top of both, so the whole node
            // is equal.
            (Part::Node { node: a, .. }, Part::Node { node: b, .. }) if Arc::ptr_eq(a, b) => {
                self.a.0.pop();
                self.b.0.pop();
            }
            _ => match a.start().cmp(&b.start()) {
                // `b` maps nothing below its start, so what is taken here is in `a` only. If `a` is a node, it starts
                // before `b` and cannot lie within it; opening it misses no shared node.
                Ordering::Less => {
                    let only = self.a.take_below(b.start());
                    self.tell(only);
                }
                Ordering::Greater => {
                    let only = self.b.take_below(a.start());
                    self.tell(only);
                }
                Ordering::Equal => self.step_together(a, b),
            },
        }
        true
    }

    /// Both go on with parts that begin at the same thin block.
    fn step_together(&mut self, a: Part<'a>, b: Part<'a>) {
        let (height_a, height_b) = (a.height(), b.height());
        if let (Part::Run(a), Part::Run(b)) = (a, b) {
            // Data blocks ascend with thin blocks within a run, so the first one decides for the common part. The rest
            // of the longer run stays on its side.
            let end = a.end().min(b.end());
            let range = self.a.take_below(end);
            self.b.take_below(end);
            self.tell(range.filter(|_| a.data_block != b.data_block));
            return;
        }
        // The taller one may contain the other. Opening the lower one too would take it apart before its twin appears
        // on the other side. Two nodes of equal height cannot contain each other, but may have children in common.
        if height_a >= height_b {
            self.a.enter();
        }
        if height_b >= height_a {
            self.b.enter();
        }
    }

    /// One mapping, or both, have come to their end.
    fn step_alone(&mut self) -> bool {
        let side = if self.a.0.is_empty() {
            &mut self.b
        } else {
            &mut self.a
        };
        if side.0.is_empty() {
            return false;
        }
        let only = side.take_below(u64::MAX);
        self.tell(only);
        true
    }

    fn tell(&mut self, range: Option<Range<u64>>) {
        let Some(range) = range else { return };
        match self.changed.last_mut() {
            // Differences come in pieces of runs, so those that touch are joined.
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.changed.push(range),
        }
    }
}

impl<'a> Side<'a> {
    fn new(mapping: &'a Mapping) -> Self {
        let node = mapping.root();
        // All leaves are at one depth, so the leftmost path gives the height of the whole tree.
        let height = std::iter::successors(Some(node), |node| match &***node {
            Node::Leaf(_) => None,
            Node::Internal(internal) => internal.children.first().map(|child| &child.node),
        })
        .count();
        let height = u32::try_from(height).expect("few");
        let root = Part::Node { node, height };
        // An empty root has no first key to order it by.
        Self(if mapping.is_empty() {
            vec![]
        } else {
            vec![root]
        })
    }

    /// Takes the next run off as far as it is below `end`; of a node, looks into it instead.
    fn take_below(&mut self, end: u64) -> Option<Range<u64>> {
        let Some(Part::Run(run)) = self.0.last().copied() else {
            self.enter();
            return None;
        };
        self.0.pop();
        self.0.extend(run.within(&(end..u64::MAX)).map(Part::Run));
        Some(run.thin_block..end.min(run.end()))
    }

    /// Puts what is in the next node in its place.
    fn enter(&mut self) {
        let Some(Part::Node { node, height }) = self.0.pop() else {
            unreachable!("only nodes are looked into");
        };
        match &**node {
            Node::Leaf(leaf) => {
                let runs = leaf.runs.iter().rev();
                self.0
                    .extend(runs.map(|run| Part::Run(MappedRun::of(*run))));
            }
            Node::Internal(internal) => {
                let children = internal.children.iter().rev();
                self.0.extend(children.map(|child| Part::Node {
                    node: &child.node,
                    height: height - 1,
                }));
            }
        }
    }
}

impl Part<'_> {
    /// No thin block in it is below this.
    fn start(self) -> u64 {
        match self {
            // The node's own key, not its parent's: a shared node must start at the same place on both sides.
            Self::Node { node, .. } => node.first_key().expect("only a root is empty"),
            Self::Run(run) => run.thin_block,
        }
    }

    /// Of a run: 0, less than of any node.
    fn height(self) -> u32 {
        match self {
            Self::Node { height, .. } => height,
            Self::Run(_) => 0,
        }
    }
}
