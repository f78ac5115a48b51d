//! Which blocks a file or directory has: runs, and the tree they are stored in.
//!
//! Source: linux v6.6 `fs/ext4/ext4_extents.h`. The four first nodes' worth of runs stands in the inode; more go to
//! nodes of their own, each filled before the next.

use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::ext4::checksum::InodeSummer;
use crate::ext4::format::{BLOCK, EXTENT_MAGIC, ExtentHeader, ExtentIndex, ExtentLeaf};

/// Most blocks in one run; a larger length means "unwritten".
pub(super) const MAX_RUN: u32 = 32_768;
/// Entries in the inode.
const ROOT_ENTRIES: usize = 4;
/// Entries in a node: the last four bytes are the checksum's.
const NODE_ENTRIES: usize = 340;
/// Bytes of a header and of an entry of either kind.
const ENTRY: usize = size_of::<ExtentHeader>();

/// A run of blocks of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its first block's place in the file, in blocks of 4 KiB.
    pub logical: u32,
    /// Its first block's place in the file system, in blocks of 4 KiB.
    pub physical: u32,
    /// Blocks of 4 KiB: 1 to 32768.
    pub blocks: u32,
}

/// The blocks of one inode. Most have a single run from their first block on.
#[derive(Clone, Debug, Default)]
pub(super) enum Blocks {
    #[default]
    None,
    One {
        start: u32,
        blocks: u32,
    },
    Many(Arc<Tree>),
}

/// Runs in order, and the blocks of the nodes that hold them.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    extents: Vec<Extent>,
    nodes: Vec<u32>,
}

impl From<Vec<Extent>> for Blocks {
    fn from(extents: Vec<Extent>) -> Self {
        match extents[..] {
            [] => Self::None,
            [
                Extent {
                    logical: 0,
                    physical,
                    blocks,
                },
            ] => Self::One {
                start: physical,
                blocks,
            },
            _ => Self::Many(Arc::new(Tree {
                extents,
                nodes: Vec::new(),
            })),
        }
    }
}

impl Blocks {
    /// The runs in order.
    pub(super) fn extents(&self) -> impl Iterator<Item = Extent> + Clone {
        let (one, many): (Option<Extent>, &[Extent]) = match self {
            Self::None => (None, &[]),
            &Self::One { start, blocks } => {
                let extent = Extent {
                    logical: 0,
                    physical: start,
                    blocks,
                };
                (Some(extent), &[])
            }
            Self::Many(tree) => (None, &tree.extents),
        };
        one.into_iter().chain(many.iter().copied())
    }

    /// The blocks of the tree's nodes.
    pub(super) fn nodes(&self) -> &[u32] {
        match self {
            Self::Many(tree) => &tree.nodes,
            _ => &[],
        }
    }

    /// How many blocks the nodes should have that they have not.
    pub(super) fn missing_nodes(&self) -> usize {
        match self {
            Self::Many(tree) => levels(tree.extents.len()).iter().sum::<usize>() - tree.nodes.len(),
            _ => 0,
        }
    }

    /// Gives the tree another block for a node.
    pub(super) fn add_node(&mut self, block: u32) {
        if let Self::Many(tree) = self {
            Arc::make_mut(tree).nodes.push(block);
        }
    }

    /// Blocks of data.
    pub(super) fn nr_blocks(&self) -> u32 {
        self.extents().map(|extent| extent.blocks).sum()
    }

    /// The place of a block of the file.
    pub(super) fn physical(&self, logical: u32) -> Option<u32> {
        let within = |extent: &Extent| {
            let offset = logical.checked_sub(extent.logical)?;
            (offset < extent.blocks).then_some(extent.physical + offset)
        };
        match self {
            Self::Many(tree) => {
                let after = tree
                    .extents
                    .partition_point(|extent| extent.logical <= logical);
                within(tree.extents.get(after.checked_sub(1)?)?)
            }
            _ => self.extents().find_map(|extent| within(&extent)),
        }
    }

    /// Appends a run behind the last one.
    pub(super) fn append(&mut self, extent: Extent) {
        if let Self::Many(tree) = self {
            push(&mut Arc::make_mut(tree).extents, extent);
            return;
        }
        let mut extents: Vec<_> = self.extents().collect();
        push(&mut extents, extent);
        *self = Self::from(extents);
    }

    /// Drops all blocks from `logical` on and the nodes; returns what was dropped.
    pub(super) fn truncate(&mut self, logical: u32) -> Vec<Extent> {
        let (mut kept, mut dropped) = (Vec::new(), Vec::new());
        dropped.extend(self.nodes().iter().map(|&physical| Extent {
            logical: 0,
            physical,
            blocks: 1,
        }));
        for extent in self.extents() {
            let keep = logical.saturating_sub(extent.logical).min(extent.blocks);
            if keep > 0 {
                kept.push(Extent {
                    blocks: keep,
                    ..extent
                });
            }
            if keep < extent.blocks {
                dropped.push(Extent {
                    logical: extent.logical + keep,
                    physical: extent.physical + keep,
                    blocks: extent.blocks - keep,
                });
            }
        }
        *self = Self::from(kept);
        dropped
    }

    /// `i_block`: the root of the tree.
    pub(super) fn encode_root(&self, out: &mut [u8; 60]) {
        let Self::Many(tree) = self else {
            let extents: Vec<_> = self.extents().collect();
            return encode_leaf(&extents, ROOT_ENTRIES, out);
        };
        let levels = levels(tree.extents.len());
        match levels.len() {
            0 => encode_leaf(&tree.extents, ROOT_ENTRIES, out),
            depth => tree.encode_index(depth, 0, (ROOT_ENTRIES, &mut out[..])),
        }
    }

    /// The node in `self.nodes()[at]`.
    pub(super) fn encode_node(&self, at: usize, summer: &InodeSummer, out: &mut [u8]) {
        let Self::Many(tree) = self else { return };
        let mut at = at;
        for (level, nodes) in levels(tree.extents.len()).into_iter().enumerate() {
            if at >= nodes {
                at -= nodes;
                continue;
            }
            if level == 0 {
                let part = tree.extents.chunks(NODE_ENTRIES).nth(at);
                encode_leaf(part.unwrap_or_default(), NODE_ENTRIES, out);
            } else {
                tree.encode_index(level, at, (NODE_ENTRIES, out));
            }
            break;
        }
        if summer.is_full() {
            let (covered, tail) = out.split_at_mut(BLOCK - 4);
            tail.copy_from_slice(&summer.sum(&[covered]).to_le_bytes());
        }
    }
}

/// Adds a run to a list, joined to the last one where both meet.
pub(super) fn push(extents: &mut Vec<Extent>, extent: Extent) {
    let mut rest = extent;
    if let Some(last) = extents.last_mut()
        && last.logical + last.blocks == rest.logical
        && last.physical + last.blocks == rest.physical
    {
        let joined = rest.blocks.min(MAX_RUN - last.blocks);
        last.blocks += joined;
        rest.logical += joined;
        rest.physical += joined;
        rest.blocks -= joined;
    }
    while rest.blocks > 0 {
        let blocks = rest.blocks.min(MAX_RUN);
        extents.push(Extent { blocks, ..rest });
        rest.logical += blocks;
        rest.physical += blocks;
        rest.blocks -= blocks;
    }
}

/// Nodes on each level below the root, the leaves first; none when the runs fit the inode.
fn levels(extents: usize) -> Vec<usize> {
    let mut levels = Vec::new();
    let mut entries = extents;
    while entries > ROOT_ENTRIES {
        entries = entries.div_ceil(NODE_ENTRIES);
        levels.push(entries);
    }
    levels
}

impl Tree {
    /// The `at`-th index node of a level (1 is the one above the leaves), with room for as many entries as given.
    fn encode_index(&self, level: usize, at: usize, (room, out): (usize, &mut [u8])) {
        let levels = levels(self.extents.len());
        let below = levels[level - 1];
        let first_of_level: usize = levels[..level - 1].iter().sum();
        let children = at * room..((at + 1) * room).min(below);
        let span = NODE_ENTRIES.pow(u32::try_from(level).expect("a few levels"));
        encode_header(children.len(), room, level, out);
        for (entry, child) in out[ENTRY..].chunks_exact_mut(ENTRY).zip(children) {
            let index = ExtentIndex {
                ei_block: self.extents[child * span].logical.into(),
                ei_leaf_lo: self.nodes[first_of_level + child].into(),
                ei_leaf_hi: 0.into(),
                ei_unused: 0.into(),
            };
            entry.copy_from_slice(index.as_bytes());
        }
    }
}

fn encode_leaf(extents: &[Extent], room: usize, out: &mut [u8]) {
    encode_header(extents.len(), room, 0, out);
    for (entry, extent) in out[ENTRY..].chunks_exact_mut(ENTRY).zip(extents) {
        let leaf = ExtentLeaf {
            ee_block: extent.logical.into(),
            ee_len: u16::try_from(extent.blocks).expect("at most 32768").into(),
            ee_start_hi: 0.into(),
            ee_start_lo: extent.physical.into(),
        };
        entry.copy_from_slice(leaf.as_bytes());
    }
}

fn encode_header(entries: usize, room: usize, depth: usize, out: &mut [u8]) {
    let small = |n: usize| u16::try_from(n).expect("at most 340").into();
    let header = ExtentHeader {
        eh_magic: EXTENT_MAGIC.into(),
        eh_entries: small(entries),
        eh_max: small(room),
        eh_depth: small(depth),
        eh_generation: 0.into(),
    };
    out[..ENTRY].copy_from_slice(header.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scattered(n: u32) -> Vec<Extent> {
        (0..n)
            .map(|i| Extent {
                logical: 2 * i,
                physical: 1000 + 3 * i,
                blocks: 1,
            })
            .collect()
    }

    #[test]
    fn nodes_are_counted_by_level() {
        assert_eq!(levels(4), [0; 0]);
        assert_eq!(levels(5), [1]);
        assert_eq!(levels(1360), [4]);
        assert_eq!(levels(1361), [5, 1]);
        assert_eq!(levels(4 * 340 * 340 + 1), [1361, 5, 1]);
    }

    #[test]
    fn runs_that_meet_are_joined_up_to_the_longest() {
        let mut extents = Vec::new();
        let run = |logical, blocks| Extent {
            logical,
            physical: 5000 + logical,
            blocks,
        };
        push(&mut extents, run(0, 32_000));
        push(&mut extents, run(32_000, 40_000));
        assert_eq!(
            extents,
            [run(0, 32_768), run(32_768, 32_768), run(65_536, 6464)]
        );
    }

    #[test]
    fn a_block_is_found_in_any_form() {
        for blocks in [
            Blocks::One {
                start: 70,
                blocks: 9,
            },
            Blocks::from(scattered(3)),
            Blocks::from(scattered(3000)),
        ] {
            for extent in blocks.extents() {
                assert_eq!(blocks.physical(extent.logical), Some(extent.physical));
            }
        }
        assert_eq!(Blocks::from(scattered(3000)).physical(1), None);
    }

    #[test]
    fn truncation_gives_back_runs_and_nodes() {
        let mut blocks = Blocks::from(scattered(6));
        blocks.add_node(7);
        assert_eq!(blocks.missing_nodes(), 0);
        let dropped: Vec<_> = blocks.truncate(4).iter().map(|e| e.physical).collect();
        assert_eq!(dropped, [7, 1006, 1009, 1012, 1015]);
        assert_eq!(blocks.nr_blocks(), 2);
        assert!(blocks.nodes().is_empty());
    }
}
