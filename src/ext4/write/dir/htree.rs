//! A directory's index: leaves by hash range, below a root and at most one level of nodes.
//!
//! Source: linux v6.6 `fs/ext4/namei.c`. Leaves are found in memory by the lowest hash they may hold; the index blocks
//! are made from that when they are written. One changed name costs one leaf, whatever the directory's size.

use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, Vector};
use zerocopy::IntoBytes;

use super::rules::{ChangedBlocks, Rules, with};
use crate::ext4::checksum::InodeSummer;
use crate::ext4::format::{BLOCK, DxCountLimit, DxEntry, DxRootInfo};
use crate::ext4::hash::half_md4;
use crate::ext4::ino::Ino;
use crate::ext4::write::dirent::{self, Entries, Entry};
use crate::ext4::write::error::Problem;

/// Half-MD4's number in the root.
const HASH_VERSION: u8 = 1;
/// Where the index starts in the root: behind `.`, `..` and the root's own fields.
const ROOT_INDEX: usize = 32;
/// Where it starts in a node: behind an unused entry.
const NODE_INDEX: usize = 8;
const DX_ENTRY: usize = size_of::<DxEntry>();
/// Set in a leaf's hash when the leaf before holds names of the same hash.
const CONTINUED: u32 = 1;
/// How full a new leaf or node is made, in percent, so that the next names do not split it.
const FILL: usize = 80;

/// A leaf's place in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// The lowest hash in it, with [`CONTINUED`].
    hash: u32,
    /// Tells leaves apart that hold one and the same continued hash.
    nth: u32,
}

const FIRST: Key = Key { hash: 0, nth: 0 };

/// An indexed directory.
#[derive(Clone, Debug)]
pub(super) struct Htree {
    /// By number in the directory.
    blocks: Vector<Block>,
    leaves: OrdMap<Key, u32>,
    /// By the first leaf below; empty while the root points to the leaves themselves.
    nodes: OrdMap<Key, u32>,
}

#[derive(Clone, Debug)]
enum Block {
    Root,
    Node(Key),
    /// Packed entries.
    Leaf(Arc<[u8]>),
}

impl Htree {
    pub(super) fn build(entries: &[Entry<'_>], rules: &Rules) -> Result<Self, Problem> {
        let mut sorted: Vec<_> = entries
            .iter()
            .map(|entry| (rules.hash(entry.name), entry))
            .collect();
        sorted.sort_by_key(|&(hash, _)| hash);
        let leaves = fill_leaves(&sorted, rules);
        let mut htree = Self {
            blocks: Vector::unit(Block::Root),
            leaves: OrdMap::new(),
            nodes: OrdMap::new(),
        };
        // The first leaf's key is always `FIRST`, and so is the first node's, so `get_prev` always finds one. Each node
        // is left with room; otherwise the first leaf split below it would split the node as well.
        if leaves.len() > rules.root_limit() {
            for node in leaves.chunks(rules.node_limit() * FILL / 100) {
                htree.add_node(node[0].0, rules)?;
            }
        }
        for (key, packed) in leaves {
            htree.add_leaf(key, packed);
        }
        Ok(htree)
    }

    pub(super) fn nr_blocks(&self) -> u32 {
        u32::try_from(self.blocks.len()).expect("two levels hold fewer than 2^32 blocks")
    }

    /// All leaves, packed.
    pub(super) fn leaves(&self) -> impl Iterator<Item = &[u8]> {
        self.blocks.iter().filter_map(|block| match block {
            Block::Leaf(packed) => Some(&**packed),
            _ => None,
        })
    }

    pub(super) fn lookup(&self, name: &[u8], rules: &Rules) -> Option<Entry<'_>> {
        let leaves = self.leaves_of(rules.hash(name));
        leaves
            .filter_map(|(_, leaf)| dirent::find(self.leaf(leaf), name))
            .map(|(_, entry)| entry)
            .next()
    }

    pub(super) fn insert(
        &mut self,
        entry: Entry<'_>,
        rules: &Rules,
        touched: &mut ChangedBlocks,
    ) -> Result<(), Problem> {
        // Any leaf of a chain that continues one hash may take the name, because the kernel's lookup reads on to the
        // end of the chain. So the chain is filled before it grows, and only its last leaf is ever split.
        let room = rules.leaf_room();
        let mut last = None;
        for (key, leaf) in self.leaves_of(rules.hash(entry.name)) {
            last = Some((key, leaf));
            if dirent::total_bytes(self.leaf(leaf)) + entry.block_bytes() <= room {
                break;
            }
        }
        let (key, leaf) = last.expect("the first leaf starts at hash 0");
        let packed = with(self.leaf(leaf), &entry);
        // Noted here because a split rewrites this leaf too, but reports only the new blocks.
        touched.push(leaf);
        if dirent::total_bytes(&packed) <= room {
            self.set_leaf(leaf, &packed);
            return Ok(());
        }
        self.split(key, &packed, (rules, touched))
    }

    /// Changes the leaf that holds a name; the leaf, and the type byte that stood there.
    pub(super) fn edit(
        &mut self,
        name: &[u8],
        edit: impl Fn(&[u8]) -> Option<(Box<[u8]>, u8)>,
        rules: &Rules,
    ) -> Option<(u32, u8)> {
        let (leaf, new, old) = self.leaves_of(rules.hash(name)).find_map(|(_, leaf)| {
            let (new, old) = edit(self.leaf(leaf))?;
            Some((leaf, new, old))
        })?;
        self.set_leaf(leaf, &new);
        Some((leaf, old))
    }

    /// The leaves that may hold names of a hash, in order.
    fn leaves_of(&self, hash: u32) -> impl Iterator<Item = (Key, u32)> {
        let up_to = Key {
            hash,
            nth: u32::MAX,
        };
        // As `dx_probe` does, take the last leaf whose hash is not above this one. Name hashes are even, so a leaf that
        // continues this very hash sorts after `up_to`: the walk starts at the head of the chain, never in the middle.
        let first = self.leaves.get_prev(&up_to);
        let more = self
            .leaves
            .range((Bound::Excluded(up_to), Bound::Unbounded))
            .take_while(move |(key, _)| key.hash == hash | CONTINUED);
        first
            .into_iter()
            .chain(more)
            .map(|(&key, &leaf)| (key, leaf))
    }

    fn leaf(&self, block: u32) -> &[u8] {
        match &self.blocks[block as usize] {
            Block::Leaf(packed) => packed,
            _ => &[],
        }
    }

    fn set_leaf(&mut self, block: u32, packed: &[u8]) {
        self.blocks[block as usize] = Block::Leaf(packed.into());
    }

    /// Spreads entries that are too many for one leaf over it and a new one.
    fn split(
        &mut self,
        key: Key,
        packed: &[u8],
        (rules, touched): (&Rules, &mut ChangedBlocks),
    ) -> Result<(), Problem> {
        // A packed leaf keeps its names in insertion order, which the format allows within a leaf. Only the split needs
        // them ordered by hash.
        let mut sorted: Vec<_> = Entries(packed)
            .map(|entry| (rules.hash(entry.name), entry))
            .collect();
        sorted.sort_by_key(|&(hash, _)| hash);
        let at = split_point(&sorted, rules.leaf_room());
        let (low, high) = sorted.split_at(at);
        let (before, hash) = (low[at - 1].0, high[0].0);
        // `do_split` sets the same mark. Without it, a lookup of this hash would start at the new leaf and miss the
        // names left in the old one.
        let new = match (before == hash, key.hash == hash | CONTINUED) {
            (false, _) => Key { hash, nth: 0 },
            (true, again) => Key {
                hash: hash | CONTINUED,
                // A leaf that is split amid one hash is the last of that hash: `insert` fills those before it first.
                nth: if again { key.nth + 1 } else { 0 },
            },
        };
        // Make room first: a leaf's key alone decides which node it belongs to, so a leaf added under a full node would
        // overflow it. The new key lies between `key` and the next leaf's key, so both leaves stay under one node even
        // if that node is split here.
        self.make_room_in_index(key, rules, touched)?;
        let leaf = self.leaves[&key];
        self.set_leaf(leaf, &pack(low));
        touched.push(self.add_leaf(new, pack(high).into()));
        // Looked up only now: making room may have split the index block above.
        touched.push(self.index_of(new));
        Ok(())
    }

    /// Sees to it that the index block above a leaf can take one more.
    fn make_room_in_index(
        &mut self,
        key: Key,
        rules: &Rules,
        touched: &mut ChangedBlocks,
    ) -> Result<(), Problem> {
        if self.nodes.is_empty() {
            if self.leaves.len() < rules.root_limit() {
                return Ok(());
            }
            // The index grows a level: one node takes over everything the root pointed to. It always fits, as a node
            // holds three entries more than the root.
            touched.extend([0, self.add_node(FIRST, rules)?]);
        }
        let (first, node) = self.nodes.get_prev(&key).expect("the first node has all");
        let (first, node) = (*first, *node);
        let below: Vec<_> = self.below(first).map(|(&key, _)| key).collect();
        if below.len() >= rules.node_limit() {
            // Split the node in the middle, as the kernel does. Leaves find their node by key, so none has to move. The
            // root gains an entry, hence block 0.
            let new = self.add_node(below[below.len() / 2], rules)?;
            touched.extend([0, node, new]);
        }
        Ok(())
    }

    fn add_leaf(&mut self, key: Key, packed: Arc<[u8]>) -> u32 {
        // Blocks are only ever appended. They keep their numbers, so a child shares every block it does not rewrite
        // with its parent.
        let block = self.nr_blocks();
        self.blocks.push_back(Block::Leaf(packed));
        self.leaves.insert(key, block);
        block
    }

    fn add_node(&mut self, key: Key, rules: &Rules) -> Result<u32, Problem> {
        // The index cannot grow a third level: the kernel follows one only with `large_dir`, which is younger than the
        // kernels these images must mount on.
        if self.nodes.len() >= rules.root_limit() {
            return Err(Problem::DirectoryFull);
        }
        let block = self.nr_blocks();
        self.blocks.push_back(Block::Node(key));
        self.nodes.insert(key, block);
        Ok(block)
    }

    /// The block that points to a leaf.
    fn index_of(&self, leaf: Key) -> u32 {
        self.nodes.get_prev(&leaf).map_or(0, |(_, &node)| node)
    }

    /// The leaves below the node whose first leaf is `first`.
    fn below(&self, first: Key) -> impl Iterator<Item = (&Key, &u32)> {
        let after = (Bound::Excluded(first), Bound::Unbounded);
        let end = match self.nodes.range(after).next() {
            Some((&next, _)) => Bound::Excluded(next),
            None => Bound::Unbounded,
        };
        self.leaves.range((Bound::Included(first), end))
    }

    pub(super) fn encode_block(
        &self,
        (logical, dots): (u32, [Entry<'_>; 2]),
        summer: &InodeSummer,
        out: &mut [u8],
    ) {
        match &self.blocks[logical as usize] {
            Block::Leaf(packed) => {
                dirent::encode_block(Entries(packed), summer, out);
            }
            Block::Node(first) => {
                // To a reader that knows no index, a node is a directory block with one unused entry. The index lies
                // behind that entry's head.
                let unused = Entry {
                    name: b"",
                    ino: Ino(0),
                    file_type: 0,
                };
                dirent::encode_entry(&unused, BLOCK, out);
                encode_index(self.below(*first), NODE_INDEX, summer, out);
            }
            Block::Root => self.encode_root(&dots, summer, out),
        }
    }

    fn encode_root(&self, [own, parent]: &[Entry<'_>; 2], summer: &InodeSummer, out: &mut [u8]) {
        dirent::encode_entry(own, own.block_bytes(), out);
        let rest = &mut out[own.block_bytes()..];
        // The record of `..` spans the rest of the block and so hides the index from readers that do not know it.
        dirent::encode_entry(parent, rest.len(), rest);
        // Written before the index, whose checksum covers it.
        let info = DxRootInfo {
            reserved_zero: 0.into(),
            hash_version: HASH_VERSION,
            info_length: 8,
            indirect_levels: u8::from(!self.nodes.is_empty()),
            unused_flags: 0,
        };
        out[ROOT_INDEX - size_of::<DxRootInfo>()..ROOT_INDEX].copy_from_slice(info.as_bytes());
        if self.nodes.is_empty() {
            encode_index(self.leaves.iter(), ROOT_INDEX, summer, out);
        } else {
            encode_index(self.nodes.iter(), ROOT_INDEX, summer, out);
        }
    }
}

impl Rules {
    fn hash(&self, name: &[u8]) -> u32 {
        half_md4(name, &self.seed)
    }

    fn root_limit(&self) -> usize {
        index_limit(ROOT_INDEX, self.summer.is_full())
    }

    fn node_limit(&self) -> usize {
        index_limit(NODE_INDEX, self.summer.is_full())
    }

    fn leaf_room(&self) -> usize {
        dirent::room(self.summer.is_full())
    }
}

/// Entries of an index that starts there: with checksums on everything, one makes room for the checksum.
fn index_limit(start: usize, has_checksum: bool) -> usize {
    (BLOCK - start) / DX_ENTRY - usize::from(has_checksum)
}

/// Writes an index from byte `start` of a block on.
fn encode_index<'a>(
    entries: impl Iterator<Item = (&'a Key, &'a u32)>,
    start: usize,
    summer: &InodeSummer,
    out: &mut [u8],
) {
    // The limit follows from the format: the kernel and e2fsck reject an index with any other.
    let limit = index_limit(start, summer.is_full());
    let mut count = 0;
    for ((key, &block), place) in entries.zip(out[start..].chunks_exact_mut(DX_ENTRY)) {
        let entry = DxEntry {
            hash: key.hash.into(),
            block: block.into(),
        };
        place.copy_from_slice(entry.as_bytes());
        count += 1;
    }
    let small = |n: usize| u16::try_from(n).expect("at most 511").into();
    // This overwrites the first entry's hash, which nobody reads: the first child takes everything below the second
    // key. A node's first hash stands in the root as well.
    let head = DxCountLimit {
        limit: small(limit),
        count: small(count),
    };
    out[start..start + size_of::<DxCountLimit>()].copy_from_slice(head.as_bytes());
    if summer.is_full() {
        // The tail behind the last possible entry: a reserved word and the checksum, which is summed as zeros.
        let (covered, tail) = out.split_at_mut(start + limit * DX_ENTRY);
        // The checksum covers only the entries in use, but its place follows from the limit.
        let used = &covered[..start + count * DX_ENTRY];
        let sum = summer.sum(&[used, &[0; 8]]);
        tail[4..8].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Packs entries of ascending hash into leaves, [`FILL`] percent full, none of which starts amid one hash if the names
/// of that hash fit a leaf.
fn fill_leaves(sorted: &[(u32, &Entry<'_>)], rules: &Rules) -> Vec<(Key, Arc<[u8]>)> {
    let room = rules.leaf_room();
    let mut leaves: Vec<(Key, Arc<[u8]>)> = Vec::new();
    let (mut key, mut packed, mut bytes) = (FIRST, Vec::new(), 0);
    for group in sorted.chunk_by(|a, b| a.0 == b.0) {
        let hash = group[0].0;
        let group_bytes: usize = group.iter().map(|(_, entry)| entry.block_bytes()).sum();
        // Slack is no reason to separate names of one hash: a group above the fill mark may use the whole leaf. Every
        // continued leaf costs another block read in each lookup of its hash.
        if bytes > 0 && bytes + group_bytes > room * FILL / 100 {
            leaves.push((key, std::mem::take(&mut packed).into()));
            (key, bytes) = (Key { hash, nth: 0 }, 0);
        }
        for (_, entry) in group {
            if bytes + entry.block_bytes() > room {
                leaves.push((key, std::mem::take(&mut packed).into()));
                // Reached only if a single group is too large for one leaf. Nothing else makes a leaf start in the
                // middle of a hash.
                let hash = hash | CONTINUED;
                let nth = if key.hash == hash { key.nth + 1 } else { 0 };
                (key, bytes) = (Key { hash, nth }, 0);
            }
            entry.pack(&mut packed);
            bytes += entry.block_bytes();
        }
    }
    leaves.push((key, packed.into()));
    leaves
}

/// Where to split entries of ascending hash into two leaves: the most even place between two hashes, or within one hash
/// if no other leaves both halves small enough.
fn split_point(sorted: &[(u32, Entry<'_>)], room: usize) -> usize {
    let total: usize = sorted.iter().map(|(_, entry)| entry.block_bytes()).sum();
    let mut low = 0;
    // Some place always fits, so 0 is never returned: the entries exceed one leaf by a single name of at most 264
    // bytes, and near the middle both halves are far below `room`. Nor can the split fall within a hash that a later
    // leaf already continues. Such a hash stands last; if the lower half is too large at the boundary before it, it is
    // too large everywhere behind it.
    let mut best = (true, usize::MAX, 0);
    for at in 1..sorted.len() {
        low += sorted[at - 1].1.block_bytes();
        let amid = sorted[at - 1].0 == sorted[at].0;
        let larger = low.max(total - low);
        if larger <= room && (amid, larger) < (best.0, best.1) {
            best = (amid, larger, at);
        }
    }
    best.2
}

fn pack(entries: &[(u32, Entry<'_>)]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(entries.iter().map(|(_, e)| e.packed_bytes()).sum());
    for (_, entry) in entries {
        entry.pack(&mut packed);
    }
    packed
}
