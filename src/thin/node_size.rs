//! How many entries a node of a B-tree holds, and how entries are spread over nodes.
//!
//! Source: linux v6.6 `calc_max_entries` in `drivers/md/persistent-data/dm-btree.c`.

use std::mem::size_of;

use zerocopy::little_endian::{U32, U64};

use super::format::{BLOCK_SIZE, RawNodeHeader};

pub(super) const HEADER: usize = size_of::<RawNodeHeader>();

pub(super) const KEY: usize = size_of::<U64>();

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

pub(super) fn small(n: usize) -> U32 {
    U32::new(u32::try_from(n).expect("below the block size"))
}
