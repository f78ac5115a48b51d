//! Reading b-trees from a device that may hold anything.
//!
//! Every pointer followed is counted, so that the metadata space map can be checked afterwards, and every block is
//! parsed once: whatever the pointers say, work and memory are bounded by the blocks there are.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::node::{ParsedNode, parse_node};
use crate::thin::block_kind::BlockKind;
use crate::thin::checksum::verify;
use crate::thin::error::{Error, Fault, malformed};
use crate::thin::format::{BLOCK_SIZE, Block};
use crate::thin::id::ThinId;
use crate::thin::mapping::{BlockTime, Child, Internal, Leaf, MAX_THIN_BLOCKS, Mapping, Node};
use crate::thin::ref_counts::RefCounts;
use crate::thin::remarks::Remarks;

/// Levels a tree can have: nodes a third full reach 2^64 keys below this.
const MAX_LEVELS: u32 = 12;

/// Something that holds metadata blocks.
pub trait ReadBlocks {
    /// Reads the block of this number.
    ///
    /// # Errors
    ///
    /// Whatever the device reports, `UnexpectedEof` past its end.
    fn read_block(&self, nr: u64, block: &mut [u8; 4096]) -> io::Result<()>;
}

/// A pointer that was found: `at` and `kind` say where, for error messages.
#[derive(Clone, Copy)]
pub(super) struct Pointer {
    at: u64,
    kind: BlockKind,
    pub(super) to: u64,
}

impl Pointer {
    /// One in this block.
    pub(super) fn within(at: u64, kind: BlockKind, to: u64) -> Self {
        Self { at, kind, to }
    }

    /// One in the superblock.
    pub(super) fn in_superblock(to: u64) -> Self {
        Self::within(0, BlockKind::Superblock, to)
    }

    pub(super) fn in_node(at: u64, to: u64) -> Self {
        Self::within(at, BlockKind::Node, to)
    }

    fn fault(self, fault: Fault) -> Error {
        malformed(self.at, self.kind, fault)
    }
}

/// Reads blocks and counts the pointers to them.
pub(super) struct TreeReader<'s> {
    source: &'s dyn ReadBlocks,
    nr_blocks: u64,
    /// Pointers found so far, by metadata block.
    pub(super) refs: RefCounts,
    /// What was found that does no harm.
    pub(super) remarks: Remarks,
}

impl<'s> TreeReader<'s> {
    /// Reads a metadata device of `nr_blocks`, whose superblock is known.
    pub(super) fn new(source: &'s dyn ReadBlocks, nr_blocks: u64) -> Self {
        let mut refs = RefCounts::default();
        // The superblock counts as used, though nothing points to it.
        refs.add_run(0, 1);
        Self {
            source,
            nr_blocks,
            refs,
            remarks: Remarks::default(),
        }
    }

    /// Counts a pointer; returns whether it is the first to its block.
    pub(super) fn count(&mut self, pointer: Pointer) -> Result<bool, Error> {
        // No pointer may lead to the superblock. The upper bound also limits the memory that counts take.
        if pointer.to == 0 || pointer.to >= self.nr_blocks {
            return Err(pointer.fault(Fault::Pointer(pointer.to)));
        }
        self.refs.add_run(pointer.to, 1);
        Ok(self.refs.count(pointer.to) == 1)
    }

    /// Counts a pointer that must be the only one to its block.
    pub(super) fn count_only(&mut self, pointer: Pointer) -> Result<(), Error> {
        if self.count(pointer)? {
            return Ok(());
        }
        Err(pointer.fault(Fault::ReachedTwice(pointer.to)))
    }

    /// Reads and verifies a block.
    pub(super) fn read(&self, kind: BlockKind, nr: u64) -> Result<Block, Error> {
        let block = read_block(self.source, kind, nr)?;
        verify(kind, nr, &block)?;
        Ok(block)
    }

    /// All entries of a tree that shares no blocks, keys ascending.
    pub(super) fn entries<V>(&mut self, root: Pointer) -> Result<Vec<(u64, V)>, Error>
    where
        V: FromBytes + Immutable + KnownLayout + Unaligned + Copy,
    {
        let mut entries = Vec::new();
        self.collect(root, 0, &mut entries)?;
        Ok(entries)
    }

    /// Appends the entries below a pointer; returns the height of what is there.
    fn collect<V>(
        &mut self,
        pointer: Pointer,
        level: u32,
        entries: &mut Vec<(u64, V)>,
    ) -> Result<u32, Error>
    where
        V: FromBytes + Immutable + KnownLayout + Unaligned + Copy,
    {
        // Checked before the block is read: as a second pointer to a block is refused, loops end and a tree costs no
        // more than its blocks.
        self.count_only(pointer)?;
        let nr = pointer.to;
        let block = self.read(BlockKind::Node, nr)?;
        let node = parse_node::<V>(nr, level == 0, &block)?;
        self.note_if_sparse(nr, level, (node.len(), node.max_entries()));
        match node {
            ParsedNode::Leaf { keys, values } => {
                let keys = keys.iter().map(|key| key.get());
                entries.extend(keys.zip(values.iter().copied()));
                Ok(0)
            }
            ParsedNode::Internal { keys, children } => {
                let mut heights = Heights::below(nr, level)?;
                for (i, child) in children.iter().enumerate() {
                    let child = Pointer::in_node(nr, child.get());
                    let before = entries.len();
                    heights.add(self.collect(child, level + 1, entries)?)?;
                    // A child is not empty, because `parse_node` allows only a root to be. Its keys lie between its own
                    // key in the parent and the next one, so the list as a whole ascends.
                    let ends = (entries[before].0, entries[entries.len() - 1].0);
                    check_range(child.to, ends, &keys[i..])?;
                }
                Ok(heights.own())
            }
        }
    }
}

impl TreeReader<'_> {
    /// Counts the pointers in a tree that may share nodes with one that was read before. `found` gets the values in leaves
    /// that it does not share, each with its leaf's number.
    pub(super) fn count_tree<V>(
        &mut self,
        pointer: Pointer,
        level: u32,
        found: &mut Vec<(u64, V)>,
    ) -> Result<(), Error>
    where
        V: FromBytes + Immutable + KnownLayout + Unaligned + Copy,
    {
        // A block is counted once for every node that points to it, but what a shared node points to only once. So
        // count the pointer and do not enter the node again, which also ends loops.
        if !self.count(pointer)? {
            return Ok(());
        }
        let nr = pointer.to;
        let block = self.read(BlockKind::Node, nr)?;
        match parse_node::<V>(nr, level == 0, &block)? {
            ParsedNode::Leaf { values, .. } => {
                found.extend(values.iter().map(|value| (nr, *value)));
            }
            ParsedNode::Internal { children, .. } => {
                // Only limits the recursion. Equal depth does not matter here: the tree belongs to a metadata snapshot,
                // which only user space reads.
                Heights::below(nr, level)?;
                for child in children {
                    let child = Pointer::in_node(nr, child.get());
                    self.count_tree(child, level + 1, found)?;
                }
            }
        }
        Ok(())
    }

    /// The kernel merges nodes below a third, but not all versions of it leave none, and it reads them like others.
    fn note_if_sparse(&mut self, nr: u64, level: u32, (len, max_entries): (usize, usize)) {
        if level > 0 && len < max_entries / 3 {
            let few = u32::try_from(len).unwrap_or(u32::MAX);
            self.remarks
                .add(malformed(nr, BlockKind::Node, Fault::NrEntries(few)));
        }
    }
}

/// Reads a block, unverified.
pub(super) fn read_block(
    source: &dyn ReadBlocks,
    kind: BlockKind,
    nr: u64,
) -> Result<Block, Error> {
    let mut block = [0; BLOCK_SIZE];
    match source.read_block(nr, &mut block) {
        Ok(()) => Ok(block),
        Err(source) => Err(Error::Read {
            block: nr,
            kind,
            source,
        }),
    }
}

/// Reads mapping trees, which share nodes.
pub(super) struct MappingReader<'r, 's> {
    blocks: &'r mut TreeReader<'s>,
    nr_data_blocks: u64,
    nodes: HashMap<u64, (Arc<Node>, u32)>,
    /// Entries found so far, by the data block they point to.
    pub(super) data: RefCounts,
}

impl<'r, 's> MappingReader<'r, 's> {
    /// Reads mappings into a data device of `nr_data_blocks`.
    pub(super) fn new(blocks: &'r mut TreeReader<'s>, nr_data_blocks: u64) -> Self {
        Self {
            blocks,
            nr_data_blocks,
            nodes: HashMap::new(),
            data: RefCounts::default(),
        }
    }

    /// The mapping whose tree begins there.
    pub(super) fn mapping(&mut self, root: Pointer) -> Result<Mapping, Error> {
        let (node, _) = self.node(root, 0)?;
        Ok(Mapping::from_root(node))
    }

    /// Remarks it if a device's details state another number of mappings than it has. The kernel only tells that number.
    pub(super) fn expect_len(&mut self, id: ThinId, counted: u64, stored: u64) {
        if stored != counted {
            let remark = Error::MappedBlocks {
                id,
                stored,
                counted,
            };
            self.blocks.remarks.add(remark);
        }
    }

    /// The node a pointer leads to, and its height.
    fn node(&mut self, pointer: Pointer, level: u32) -> Result<(Arc<Node>, u32), Error> {
        let nr = pointer.to;
        // Counted even if the node is known: each distinct node is parsed once, so this is one more pointer to it. By
        // the same rule nothing below a known node is counted again.
        self.blocks.count(pointer)?;
        if let Some((node, height)) = self.nodes.get(&nr) {
            // It may have been the root of another tree, and empty as no child may be.
            if level > 0 && node.nr_entries() == 0 {
                return Err(malformed(nr, BlockKind::Node, Fault::NrEntries(0)));
            }
            // Else each device's tree could stand on the one before, and the last be as high as there are devices.
            if level + height >= MAX_LEVELS {
                return Err(malformed(nr, BlockKind::Node, Fault::Depth));
            }
            return Ok((Arc::clone(node), *height));
        }
        let block = self.blocks.read(BlockKind::Node, nr)?;
        let parsed = parse_node::<U64>(nr, level == 0, &block)?;
        let fill = (parsed.len(), parsed.max_entries());
        self.blocks.note_if_sparse(nr, level, fill);
        let (node, height) = match parsed {
            ParsedNode::Leaf { keys, values } => (self.leaf(nr, keys, values)?, 0),
            ParsedNode::Internal { keys, children } => {
                let mut heights = Heights::below(nr, level)?;
                let mut list = Vec::with_capacity(keys.len());
                for (i, child) in children.iter().enumerate() {
                    let child = Pointer::in_node(nr, child.get());
                    let (node, height) = self.node(child, level + 1)?;
                    // `Mapping` relies on leaves at one depth and on children that do not overlap. The kernel would not
                    // find a key outside its child's range.
                    heights.add(height)?;
                    let ends = node.first_key().zip(node.last_key());
                    check_range(child.to, ends.expect("a child is not empty"), &keys[i..])?;
                    let key = keys[i].get();
                    list.push(Child { key, node });
                }
                (Node::Internal(Internal::new(list.into())), heights.own())
            }
        };
        // Nodes shared on disk are shared in memory, so comparing or writing devices costs only what differs. A node is
        // added once everything below it is read: a pointer back to a node above finds nothing and runs into the depth
        // limit.
        let node = Arc::new(node);
        self.nodes.insert(nr, (Arc::clone(&node), height));
        Ok((node, height))
    }

    fn leaf(&mut self, nr: u64, keys: &[U64], values: &[U64]) -> Result<Node, Error> {
        // Keys ascend, so the last one speaks for all. A larger key could lose its upper bits in the head of a run.
        if let Some(last) = keys.last().filter(|key| key.get() >= MAX_THIN_BLOCKS) {
            return Err(malformed(nr, BlockKind::Node, Fault::ThinBlock(last.get())));
        }
        let values = values.iter().map(|value| BlockTime(value.get()));
        // Checked before anything is counted: memory for counts grows with the blocks named, and 40 bits can name far
        // more than exist.
        let outside = |value: &BlockTime| value.data_block() >= self.nr_data_blocks;
        if let Some(value) = values.clone().find(outside) {
            return Err(malformed(
                nr,
                BlockKind::Node,
                Fault::DataBlock(value.data_block()),
            ));
        }
        let leaf = Leaf::new(keys.iter().map(|key| key.get()).zip(values));
        // Counted once for each entry of each distinct leaf, as in the data space map. A shared leaf does not get here
        // again.
        for run in &leaf.runs {
            self.data.add_run(run.value.data_block(), run.len());
        }
        Ok(Node::Leaf(leaf))
    }
}

/// The heights of a node's children, which must be equal.
struct Heights {
    node: u64,
    children: Option<u32>,
}

impl Heights {
    /// For an internal node at this level, 0 being the root's.
    fn below(node: u64, level: u32) -> Result<Self, Error> {
        // Reading trees is recursive. Without a limit, a chain of nodes with one child each would go as deep as there
        // are blocks.
        if level + 1 >= MAX_LEVELS {
            return Err(malformed(node, BlockKind::Node, Fault::Depth));
        }
        Ok(Self {
            node,
            children: None,
        })
    }

    fn add(&mut self, height: u32) -> Result<(), Error> {
        if *self.children.get_or_insert(height) == height {
            return Ok(());
        }
        Err(malformed(self.node, BlockKind::Node, Fault::Depth))
    }

    fn own(&self) -> u32 {
        self.children.map_or(0, |height| height + 1)
    }
}

/// Checks that a child's lowest and highest key are in its range: from its own key in the parent to the next one.
fn check_range(child: u64, (first, last): (u64, u64), keys: &[U64]) -> Result<(), Error> {
    // The kernel looks for a key in the child with the last key not above it, so it never finds one that lies outside
    // its range.
    let key = if first < keys[0].get() {
        first
    } else if keys.get(1).is_some_and(|next| last >= next.get()) {
        last
    } else {
        return Ok(());
    };
    Err(malformed(child, BlockKind::Node, Fault::KeyOrder(key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thin::checksum::seal;

    /// Block 1 is a leaf with one mapping; each block after it is a node whose only child is the block before.
    struct Tower;

    impl ReadBlocks for Tower {
        fn read_block(&self, nr: u64, block: &mut [u8; 4096]) -> io::Result<()> {
            block.fill(0);
            let (flags, value) = if nr == 1 { (2u32, 0) } else { (1, nr - 1) };
            block[4..8].copy_from_slice(&flags.to_le_bytes());
            for (at, number) in [(16, 1u32), (20, 252), (24, 8)] {
                block[at..at + 4].copy_from_slice(&number.to_le_bytes());
            }
            block[32 + 252 * 8..][..8].copy_from_slice(&value.to_le_bytes());
            seal(BlockKind::Node, nr, block);
            Ok(())
        }
    }

    #[test]
    fn a_tree_that_stands_on_other_devices_trees_is_no_higher_than_any() {
        let mut blocks = TreeReader::new(&Tower, 1 << 20);
        let mut reader = MappingReader::new(&mut blocks, 1);
        for root in 1..=u64::from(MAX_LEVELS) {
            reader.mapping(Pointer::in_superblock(root)).unwrap();
        }
        let too_high = Pointer::in_superblock(u64::from(MAX_LEVELS) + 1);
        let error = reader.mapping(too_high).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Malformed {
                    fault: Fault::Depth,
                    ..
                }
            ),
            "{error}"
        );
    }
}
