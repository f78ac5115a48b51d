//! B-tree nodes: their limits, writing whole trees from sorted entries, and taking nodes read from disk apart.
//!
//! A node has a header, room for `max_entries` keys, then for as many values. Source: linux v6.6
//! `drivers/md/persistent-data/dm-btree-internal.h`, `calc_max_entries` in `dm-btree.c`.

use std::mem::size_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::block_writer::BlockWriter;
use super::checksum::BlockKind;
use super::error::{Error, Fault, malformed};
use super::format::{BLOCK_SIZE, Block, INTERNAL_NODE, LEAF_NODE, RawNodeHeader};

const HEADER: usize = size_of::<RawNodeHeader>();
const KEY: usize = size_of::<U64>();

/// Entries that a node with values of this size holds: a multiple of three, as the kernel rebalances by thirds.
pub(super) const fn max_entries(value_size: usize) -> usize {
    (BLOCK_SIZE - HEADER) / (KEY + value_size) / 3 * 3
}

/// How `n` entries are spread over nodes that hold `max`: all full but the last two, of which none is below a third.
///
/// Filling from the left suits what comes: a layer's new blocks lie mostly after all older ones, and an even split
/// would leave a trail of half-full nodes behind them. No entries make one empty node.
pub(super) fn piece_sizes(n: usize, max: usize) -> impl Iterator<Item = usize> {
    let pieces = n.div_ceil(max).max(1);
    let rest = n - (pieces - 1) * max;
    let last = if pieces > 1 { rest.max(max / 3) } else { rest };
    (1..=pieces).map(move |i| match pieces - i {
        0 => last,
        1 => max + rest - last,
        _ => max,
    })
}

/// Blocks that a tree of `n` entries with values of this size takes.
pub(super) const fn tree_blocks(n: u64, value_size: usize) -> u64 {
    let mut level = at_least_one(n.div_ceil(max_entries(value_size) as u64));
    let mut blocks = level;
    while level > 1 {
        level = level.div_ceil(max_entries(KEY) as u64);
        blocks += level;
    }
    blocks
}

const fn at_least_one(n: u64) -> u64 {
    if n == 0 { 1 } else { n }
}

/// Writes a tree of `n` entries, keys ascending, children before parents; returns its root's block.
///
/// # Errors
///
/// [`Error::Write`].
pub(super) fn write_tree<V: IntoBytes + Immutable>(
    out: &mut BlockWriter<'_>,
    n: usize,
    mut entries: impl Iterator<Item = (u64, V)>,
) -> Result<u64, Error> {
    let mut level = Vec::new();
    for size in piece_sizes(n, max_entries(size_of::<V>())) {
        level.push(write_node(out, LEAF_NODE, entries.by_ref().take(size))?);
    }
    while level.len() > 1 {
        let sizes = piece_sizes(level.len(), max_entries(KEY));
        let mut children = level.into_iter();
        level = Vec::new();
        for size in sizes {
            let children = children.by_ref().take(size);
            level.push(write_node(out, INTERNAL_NODE, children)?);
        }
    }
    let (_, root) = level.pop().expect("a tree has a root");
    Ok(root.get())
}

/// Writes one node; returns its lowest key (0 of an empty one) and its block.
///
/// # Errors
///
/// [`Error::Write`].
pub(super) fn write_node<V: IntoBytes + Immutable>(
    out: &mut BlockWriter<'_>,
    flags: u32,
    entries: impl Iterator<Item = (u64, V)>,
) -> Result<(u64, U64), Error> {
    let max = max_entries(size_of::<V>());
    let mut first_key = None;
    let block = out.put(BlockKind::Node, |block| {
        let (keys, values) = block[HEADER..].split_at_mut(max * KEY);
        let slots = keys
            .chunks_exact_mut(KEY)
            .zip(values.chunks_exact_mut(size_of::<V>()));
        let mut nr_entries = 0;
        for ((key, value), (key_slot, value_slot)) in entries.zip(slots) {
            first_key.get_or_insert(key);
            key_slot.copy_from_slice(&key.to_le_bytes());
            value_slot.copy_from_slice(value.as_bytes());
            nr_entries += 1;
        }
        let (header, _) = RawNodeHeader::mut_from_prefix(block).expect("a block has a header");
        header.flags = U32::new(flags);
        header.nr_entries = U32::new(nr_entries);
        header.max_entries = small(max);
        header.value_size = small(size_of::<V>());
    })?;
    Ok((first_key.unwrap_or(0), U64::new(block)))
}

fn small(n: usize) -> U32 {
    U32::new(u32::try_from(n).expect("below the block size"))
}

/// The entries of a node that was read.
#[derive(Debug)]
pub(super) enum Parsed<'b, V> {
    Leaf {
        keys: &'b [U64],
        values: &'b [V],
    },
    Internal {
        keys: &'b [U64],
        children: &'b [U64],
    },
}

impl<V> Parsed<'_, V> {
    /// Entries there are.
    pub(super) fn len(&self) -> usize {
        let (Self::Leaf { keys, .. } | Self::Internal { keys, .. }) = self;
        keys.len()
    }

    /// Entries there is room for.
    pub(super) fn max_entries(&self) -> usize {
        match self {
            Self::Leaf { .. } => max_entries(size_of::<V>()),
            Self::Internal { .. } => max_entries(KEY),
        }
    }
}

/// Takes apart a node of a tree with values `V`, read and verified as block `nr`. Keys ascend.
///
/// # Errors
///
/// [`Error::Malformed`].
pub(super) fn parse_node<V>(nr: u64, is_root: bool, block: &Block) -> Result<Parsed<'_, V>, Error>
where
    V: FromBytes + Immutable + KnownLayout + Unaligned,
{
    let malformed = |fault| malformed(nr, BlockKind::Node, fault);
    let (header, body) = RawNodeHeader::ref_from_prefix(block).expect("a block has a header");
    let is_leaf = match header.flags.get() {
        LEAF_NODE => true,
        INTERNAL_NODE => false,
        flags => return Err(malformed(Fault::NodeFlags(flags))),
    };
    let value_size = if is_leaf { size_of::<V>() } else { KEY };
    let max = max_entries(value_size);
    if header.value_size != small(value_size) {
        return Err(malformed(Fault::ValueSize(header.value_size.get())));
    }
    if header.max_entries != small(max) {
        return Err(malformed(Fault::MaxEntries(header.max_entries.get())));
    }
    // Only a tree without entries has a node without. How few others may have, the caller judges.
    let least = usize::from(!(is_root && is_leaf));
    let nr_entries = usize::try_from(header.nr_entries.get()).unwrap_or(usize::MAX);
    if !(least..=max).contains(&nr_entries) {
        return Err(malformed(Fault::NrEntries(header.nr_entries.get())));
    }
    let (keys, values) = body.split_at(max * KEY);
    let keys: &[U64] = prefix(keys, nr_entries);
    if let Some(pair) = keys.windows(2).find(|pair| pair[0].get() >= pair[1].get()) {
        return Err(malformed(Fault::KeyOrder(pair[1].get())));
    }
    Ok(if is_leaf {
        let values = prefix(values, nr_entries);
        Parsed::Leaf { keys, values }
    } else {
        let children = prefix(values, nr_entries);
        Parsed::Internal { keys, children }
    })
}

/// The first `n` values in bytes that have room for them.
fn prefix<V: FromBytes + Immutable + KnownLayout + Unaligned>(bytes: &[u8], n: usize) -> &[V] {
    let bytes = &bytes[..n * size_of::<V>()];
    <[V]>::ref_from_bytes(bytes).expect("a multiple of the size, and any byte may begin a value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_hold_the_documented_numbers_of_entries() {
        for (value_size, entries) in [(8, 252), (24, 126), (16, 168), (4, 336)] {
            assert_eq!(max_entries(value_size), entries);
        }
    }

    #[test]
    fn pieces_are_full_but_the_last_two_and_never_below_a_third() {
        for (n, sizes) in [
            (0, vec![0]),
            (1, vec![1]),
            (252, vec![252]),
            (253, vec![169, 84]),
            (335, vec![251, 84]),
            (336, vec![252, 84]),
            (504, vec![252, 252]),
            (505, vec![252, 169, 84]),
        ] {
            assert_eq!(piece_sizes(n, 252).collect::<Vec<_>>(), sizes, "{n}");
        }
        for n in 253..5000 {
            let sizes: Vec<_> = piece_sizes(n, 252).collect();
            assert_eq!(sizes.iter().sum::<usize>(), n);
            assert!(sizes.iter().all(|size| (84..=252).contains(size)), "{n}");
            assert_eq!(sizes.len(), n.div_ceil(252));
        }
    }

    #[test]
    fn a_tree_is_predicted_to_take_its_nodes() {
        for (n, blocks) in [(0, 1), (252, 1), (253, 3), (63_504, 253), (63_505, 253 + 3)] {
            assert_eq!(tree_blocks(n, 8), blocks, "{n}");
        }
    }
}
