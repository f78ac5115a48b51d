//! B-tree nodes: their limits, writing whole trees from sorted entries, and taking nodes read from disk apart.
//!
//! A node has a header, room for `max_entries` keys, then for as many values. Source: linux v6.6
//! `drivers/md/persistent-data/dm-btree-internal.h`, `calc_max_entries` in `dm-btree.c`.

use std::mem::size_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::block_writer::BlockWriter;
use crate::thin::block_kind::BlockKind;
use crate::thin::error::Error;
use crate::thin::format::{INTERNAL_NODE, LEAF_NODE, RawNodeHeader};
use crate::thin::node_size::{HEADER, KEY, max_entries, piece_sizes, small};

/// Blocks that a tree of `n` entries with values of this size takes.
pub(super) const fn tree_blocks(n: u64, value_size: usize) -> u64 {
    // Must agree with `write_tree` to the block: the metadata space map counts its own blocks before they are written.
    let mut level = at_least_one(n.div_ceil(max_entries(value_size) as u64));
    let mut blocks = level;
    while level > 1 {
        // Internal nodes hold block numbers, whatever the leaves hold.
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
    // Bottom up, because a parent holds the block numbers of its children, which exist only once these are written. The
    // number of entries must be known in advance: the last two nodes share what is left, or the last one might be too
    // sparse for `thin_check`.
    let mut level = Vec::new();
    for size in piece_sizes(n, max_entries(size_of::<V>())) {
        level.push(write_node(out, LEAF_NODE, entries.by_ref().take(size))?);
    }
    // Each level is finished before the next begins, so all leaves are at one depth. Only one level is kept in memory,
    // 16 bytes a node.
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
        // Values start after the room for all keys, not after the keys in use: the kernel locates them by
        // `max_entries`. Unused slots stay zero.
        let (keys, values) = block[HEADER..].split_at_mut(max * KEY);
        let slots = keys
            .chunks_exact_mut(KEY)
            .zip(values.chunks_exact_mut(size_of::<V>()));
        let mut nr_entries = 0;
        // The caller passes no more entries than fit; `zip` would silently drop the excess.
        for ((key, value), (key_slot, value_slot)) in entries.zip(slots) {
            first_key.get_or_insert(key);
            key_slot.copy_from_slice(&key.to_le_bytes());
            value_slot.copy_from_slice(value.as_bytes());
            nr_entries += 1;
        }
        // The number of entries is known only now. Checksum and block number are added when the block is sealed.
        let (header, _) = RawNodeHeader::mut_from_prefix(block).expect("a block has a header");
        header.flags = U32::new(flags);
        header.nr_entries = U32::new(nr_entries);
        header.max_entries = small(max);
        header.value_size = small(size_of::<V>());
    })?;
    // This becomes the key in the parent. Only a root can be empty, and it has no parent.
    Ok((first_key.unwrap_or(0), U64::new(block)))
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
