//! Checking space maps that were read against the references that were found.

use std::mem::size_of;

use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use super::btree::{Pointer, TreeReader};
use crate::thin::block_kind::BlockKind;
use crate::thin::error::{Error, Fault, SpaceMap, malformed};
use crate::thin::format::{
    BlockHeader, COUNTS_PER_BITMAP, MAX_METADATA_BITMAPS, RawIndexEntry, counts_in_bitmap,
    nr_bitmaps,
};
use crate::thin::ref_counts::{MAX_SMALL_COUNT, RefCounts};
use crate::thin::remarks::Remarks;
use crate::thin::superblock::SpaceMapRoot;

/// Checks the data space map against the mappings found.
///
/// # Errors
///
/// [`Error::RefCount`], and whatever reading its blocks gives.
pub(super) fn check_data(
    blocks: &mut TreeReader<'_>,
    root: SpaceMapRoot,
    found: &RefCounts,
) -> Result<(), Error> {
    let large = large_counts(blocks, root)?;
    let index: Vec<(u64, RawIndexEntry)> =
        blocks.entries(Pointer::in_superblock(root.bitmap_root))?;
    if index.len() as u64 != nr_bitmaps(root.nr_blocks) {
        let fault = Fault::NrBitmaps(index.len() as u64);
        return Err(malformed(root.bitmap_root, BlockKind::Node, fault));
    }
    for (i, (key, entry)) in index.iter().enumerate() {
        if *key != i as u64 {
            let fault = Fault::KeyOrder(*key);
            return Err(malformed(root.bitmap_root, BlockKind::Node, fault));
        }
        let to = entry.blocknr.get();
        blocks.count_only(Pointer::within(root.bitmap_root, BlockKind::Node, to))?;
    }
    let entries = index.iter().map(|(_, entry)| entry);
    Check::new(SpaceMap::Data, root, &large).bitmaps(blocks, entries, found)
}

/// Checks the metadata space map, when all other blocks were read.
///
/// # Errors
///
/// [`Error::RefCount`], and whatever reading its blocks gives.
pub(super) fn check_metadata(blocks: &mut TreeReader<'_>, root: SpaceMapRoot) -> Result<(), Error> {
    let large = large_counts(blocks, root)?;
    blocks.count_only(Pointer::in_superblock(root.bitmap_root))?;
    let block = blocks.read(BlockKind::Index, root.bitmap_root)?;
    let body = &block[size_of::<BlockHeader>()..];
    let index = <[RawIndexEntry; MAX_METADATA_BITMAPS]>::read_from_bytes(body)
        .expect("the entries fill the block");
    let index = index.iter().zip(0..nr_bitmaps(root.nr_blocks));
    let entries: Vec<_> = index.map(|(entry, _)| entry).collect();
    for entry in &entries {
        let to = entry.blocknr.get();
        blocks.count_only(Pointer::within(root.bitmap_root, BlockKind::Index, to))?;
    }
    let found = std::mem::take(&mut blocks.refs);
    Check::new(SpaceMap::Metadata, root, &large).bitmaps(blocks, entries.into_iter(), &found)
}

fn large_counts(blocks: &mut TreeReader<'_>, root: SpaceMapRoot) -> Result<Vec<(u64, U32)>, Error> {
    blocks.entries(Pointer::in_superblock(root.ref_count_root))
}

/// The check of one space map, bitmap by bitmap.
struct Check<'l> {
    map: SpaceMap,
    root: SpaceMapRoot,
    /// Counts above 2 that no bitmap has asked for yet.
    large: &'l [(u64, U32)],
    nr_allocated: u64,
    remarks: Remarks,
}

impl<'l> Check<'l> {
    fn new(map: SpaceMap, root: SpaceMapRoot, large: &'l [(u64, U32)]) -> Self {
        Self {
            map,
            root,
            large,
            nr_allocated: 0,
            remarks: Remarks::default(),
        }
    }

    fn bitmaps<'i>(
        mut self,
        blocks: &mut TreeReader<'_>,
        entries: impl Iterator<Item = &'i RawIndexEntry>,
        found: &RefCounts,
    ) -> Result<(), Error> {
        for (bitmap, entry) in (0..).zip(entries) {
            let block = blocks.read(BlockKind::Bitmap, entry.blocknr.get())?;
            let body = &block[size_of::<BlockHeader>()..];
            self.bitmap(bitmap, body, found)?;
            if !self.agrees(bitmap, body, entry) {
                let at = entry.blocknr.get();
                let remark = malformed(at, BlockKind::Bitmap, Fault::IndexEntry);
                self.remarks.add(remark);
            }
        }
        if let Some((block, _)) = self.large.first() {
            let fault = Fault::Overflow(*block);
            let at = self.root.ref_count_root;
            return Err(malformed(at, BlockKind::Node, fault));
        }
        // As with index entries: blocks may be hidden, and `thin_restore` 0.9 counts those it has freed.
        if !(self.nr_allocated..=self.root.nr_blocks).contains(&self.root.nr_allocated) {
            let fault = Fault::NrAllocated(self.map, self.root.nr_allocated);
            self.remarks.add(malformed(0, BlockKind::Superblock, fault));
        }
        blocks.remarks.append(self.remarks);
        Ok(())
    }

    /// Compares the counts of one bitmap with those found.
    fn bitmap(&mut self, bitmap: u64, body: &[u8], found: &RefCounts) -> Result<(), Error> {
        let first = bitmap * COUNTS_PER_BITMAP as u64;
        let len = counts_in_bitmap(bitmap, self.root.nr_blocks);
        for (i, &counted) in found.page(bitmap)[..len].iter().enumerate() {
            let block = first + i as u64;
            let mut stored = decode_count(body, i);
            if stored > MAX_SMALL_COUNT {
                stored = self.large_count(block)?;
            }
            if stored == counted {
                continue;
            }
            let wrong = Error::RefCount {
                map: self.map,
                block,
                stored,
                counted,
            };
            // What is counted too high is lost to the pool, no more: it is not handed out, and nothing uses it.
            if stored < counted {
                return Err(wrong);
            }
            self.remarks.add(wrong);
        }
        Ok(())
    }

    /// Takes the count of `block` from the tree of large ones.
    fn large_count(&mut self, block: u64) -> Result<u32, Error> {
        match self.large.split_first() {
            Some(((key, count), rest)) if *key == block && count.get() > MAX_SMALL_COUNT => {
                self.large = rest;
                Ok(count.get())
            }
            _ => Err(malformed(
                self.root.ref_count_root,
                BlockKind::Node,
                Fault::Overflow(block),
            )),
        }
    }

    /// Whether the index entry promises no free block that is none: the kernel looks for free blocks by it.
    ///
    /// It may hide some. `thin_restore` 0.9 does not count the slots past the device's end, leaves `none_free_before`
    /// behind blocks it has freed, and the device may have grown since. For that last reason those slots must be zero.
    fn agrees(&mut self, bitmap: u64, body: &[u8], entry: &RawIndexEntry) -> bool {
        let is_used = |i: &usize| decode_count(body, *i) != 0;
        let len = counts_in_bitmap(bitmap, self.root.nr_blocks);
        let used = (0..len).filter(is_used).count();
        self.nr_allocated += used as u64;
        !(len..COUNTS_PER_BITMAP).any(|i| is_used(&i))
            && entry.nr_free.get() as usize <= COUNTS_PER_BITMAP - used
            && entry.none_free_before.get() as usize <= COUNTS_PER_BITMAP
    }
}

/// The count in slot `i` of a bitmap block's body; 3 stands for any larger one too.
pub(in crate::thin) const fn decode_count(body: &[u8], i: usize) -> u32 {
    match body[i / 4] >> (2 * (i % 4)) & 3 {
        0 => 0,
        2 => 1,
        1 => 2,
        _ => 3,
    }
}
