//! Space maps: how often each block is pointed to.
//!
//! Counts up to 2 stand in bitmap blocks, two bits each, larger ones in a b-tree; an index says where the bitmaps are.
//! Source: linux v6.6 `drivers/md/persistent-data/dm-space-map-common.c`.

use std::mem::size_of;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use super::block_writer::BlockWriter;
use super::btree::{tree_blocks, write_tree};
use crate::thin::block_kind::BlockKind;
use crate::thin::error::Error;
use crate::thin::format::{
    BlockHeader, COUNTS_PER_BITMAP, RawIndexEntry, counts_in_bitmap, nr_bitmaps,
};
use crate::thin::ref_counts::{MAX_SMALL_COUNT, RefCounts};
use crate::thin::superblock::SpaceMapRoot;

const HEADER: usize = size_of::<BlockHeader>();

/// Blocks that the data space map takes, with `nr_large` counts above 2.
pub(super) const fn data_space_map_blocks(nr_blocks: u64, nr_large: u64) -> u64 {
    let bitmaps = nr_bitmaps(nr_blocks);
    bitmaps + tree_blocks(bitmaps, size_of::<RawIndexEntry>()) + tree_blocks(nr_large, 4)
}

/// Blocks that the metadata space map takes, with `nr_large` counts above 2.
pub(super) const fn metadata_space_map_blocks(nr_blocks: u64, nr_large: u64) -> u64 {
    nr_bitmaps(nr_blocks) + 1 + tree_blocks(nr_large, 4)
}

/// Writes the map of the data device.
///
/// # Errors
///
/// [`Error::Write`].
pub(super) fn write_data_space_map(
    out: &mut BlockWriter<'_>,
    nr_blocks: u64,
    counts: &RefCounts,
) -> Result<SpaceMapRoot, Error> {
    let mut entries = Vec::new();
    let mut nr_allocated = 0;
    for bitmap in 0..nr_bitmaps(nr_blocks) {
        let page = &counts.page(bitmap)[..counts_in_bitmap(bitmap, nr_blocks)];
        entries.push((bitmap, write_bitmap(out, page)?));
        nr_allocated += nr_used(page);
    }
    let large = counts.large().map(|(block, n)| (block, U32::new(n)));
    Ok(SpaceMapRoot {
        nr_blocks,
        nr_allocated,
        ref_count_root: write_tree(out, counts.large().count(), large)?,
        bitmap_root: write_tree(out, entries.len(), entries.into_iter())?,
    })
}

/// Writes the map of the metadata device, the last thing in it: it counts its own blocks too.
///
/// `shared` are the blocks written so far that more than one pointer leads to, ascending, with their counts.
///
/// # Errors
///
/// [`Error::Write`].
pub(super) fn write_metadata_space_map(
    out: &mut BlockWriter<'_>,
    nr_blocks: u64,
    shared: &[(u64, u32)],
) -> Result<SpaceMapRoot, Error> {
    let large = || shared.iter().filter(|(_, n)| *n > MAX_SMALL_COUNT);
    let nr_large = large().count();
    let end = out.next_block() + metadata_space_map_blocks(nr_blocks, nr_large as u64);
    let mut entries = Vec::new();
    let mut shared = shared.iter().copied().peekable();
    for bitmap in 0..nr_bitmaps(nr_blocks) {
        let first = bitmap * COUNTS_PER_BITMAP as u64;
        let blocks = (first..).take(counts_in_bitmap(bitmap, nr_blocks));
        let page: Vec<u32> = blocks
            .map(
                |block| match shared.next_if(|(shared, _)| *shared == block) {
                    Some((_, count)) => count,
                    None => u32::from(block < end),
                },
            )
            .collect();
        entries.push(write_bitmap(out, &page)?);
    }
    let bitmap_root = write_index(out, &entries)?;
    let large = large().map(|&(block, n)| (block, U32::new(n)));
    let ref_count_root = write_tree(out, nr_large, large)?;
    debug_assert_eq!(out.next_block(), end, "the map counted itself");
    Ok(SpaceMapRoot {
        nr_blocks,
        nr_allocated: end,
        bitmap_root,
        ref_count_root,
    })
}

/// Writes one bitmap block; returns what the index says of it.
fn write_bitmap(out: &mut BlockWriter<'_>, counts: &[u32]) -> Result<RawIndexEntry, Error> {
    let blocknr = out.put(BlockKind::Bitmap, |block| {
        for (byte, counts) in block[HEADER..].iter_mut().zip(counts.chunks(4)) {
            for (i, count) in counts.iter().enumerate() {
                *byte |= encode_count(*count) << (2 * i);
            }
        }
    })?;
    // Slots past the device's end count as free here, as they do for the kernel.
    let nr_free = COUNTS_PER_BITMAP as u64 - nr_used(counts);
    let free = counts.iter().position(|count| *count == 0);
    let small = |n: u64| U32::new(u32::try_from(n).expect("at most the counts of a bitmap"));
    Ok(RawIndexEntry {
        blocknr: U64::new(blocknr),
        nr_free: small(nr_free),
        none_free_before: small(free.unwrap_or(counts.len()) as u64),
    })
}

/// Writes the metadata space map's index block.
fn write_index(out: &mut BlockWriter<'_>, entries: &[RawIndexEntry]) -> Result<u64, Error> {
    out.put(BlockKind::Index, |block| {
        let entries = entries.as_bytes();
        block[HEADER..HEADER + entries.len()].copy_from_slice(entries);
    })
}

fn nr_used(counts: &[u32]) -> u64 {
    counts.iter().filter(|count| **count != 0).count() as u64
}

/// The two bits of a count. They are stored with the high bit first: 1 reads as 2, and the reverse.
const fn encode_count(count: u32) -> u8 {
    match count {
        0 => 0,
        1 => 2,
        2 => 1,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thin::read::space_map::decode_count;

    #[test]
    fn a_bitmap_stores_the_two_bits_of_a_count_swapped() {
        let mut bytes = Vec::new();
        let mut sink = |_, piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        let mut out = BlockWriter::new(&mut sink);
        let counts = [1, 2, 3, 0, 9, 1];
        let entry = write_bitmap(&mut out, &counts).unwrap();
        out.flush().unwrap();
        assert_eq!(bytes[16..18], [0b00_11_01_10, 0b10_11]);
        assert!(bytes[18..].iter().all(|byte| *byte == 0));
        assert_eq!(entry.nr_free.get(), 16_315);
        assert_eq!(entry.none_free_before.get(), 3);
        let read: Vec<_> = (0..6).map(|i| decode_count(&bytes[16..], i)).collect();
        assert_eq!(read, [1, 2, 3, 0, 3, 1]);
    }

    #[test]
    fn the_last_bitmap_holds_the_rest() {
        assert_eq!(nr_bitmaps(1_638_400), 101);
        assert_eq!(counts_in_bitmap(100, 1_638_400), 6400);
        assert_eq!(counts_in_bitmap(99, 1_638_400), 16_320);
    }
}
