//! Checking space maps that were read against the references that were found.

use std::mem::size_of;

use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use super::checksum::BlockKind;
use super::error::{Error, Fault, SpaceMap};
use super::format::{BlockHeader, COUNTS_PER_BITMAP, MAX_METADATA_BITMAPS, RawIndexEntry};
use super::ref_counts::{MAX_SMALL_COUNT, RefCounts};
use super::space_map::{counts_in_bitmap, decode_count, nr_bitmaps};
use super::superblock::SpaceMapRoot;
use super::tree_reader::{Pointer, TreeReader};

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
    let index: Vec<(u64, RawIndexEntry)> = blocks.entries(pointer(root.bitmap_root))?;
    if index.len() as u64 != nr_bitmaps(root.nr_blocks) {
        let fault = Fault::NrBitmaps(index.len() as u64);
        return Err(malformed(root.bitmap_root, fault));
    }
    for (i, (key, entry)) in index.iter().enumerate() {
        if *key != i as u64 {
            return Err(malformed(root.bitmap_root, Fault::KeyOrder(*key)));
        }
        blocks.count_only(Pointer {
            at: root.bitmap_root,
            to: entry.blocknr.get(),
        })?;
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
    blocks.count_only(pointer(root.bitmap_root))?;
    let block = blocks.read(BlockKind::Index, root.bitmap_root)?;
    let body = &block[size_of::<BlockHeader>()..];
    let index = <[RawIndexEntry; MAX_METADATA_BITMAPS]>::read_from_bytes(body)
        .expect("the entries fill the block");
    let index = index.iter().zip(0..nr_bitmaps(root.nr_blocks));
    let entries: Vec<_> = index.map(|(entry, _)| entry).collect();
    for entry in &entries {
        blocks.count_only(Pointer {
            at: root.bitmap_root,
            to: entry.blocknr.get(),
        })?;
    }
    let found = std::mem::take(&mut blocks.refs);
    Check::new(SpaceMap::Metadata, root, &large).bitmaps(blocks, entries.into_iter(), &found)
}

fn large_counts(blocks: &mut TreeReader<'_>, root: SpaceMapRoot) -> Result<Vec<(u64, U32)>, Error> {
    blocks.entries(pointer(root.ref_count_root))
}

/// A pointer in the superblock.
fn pointer(to: u64) -> Pointer {
    Pointer { at: 0, to }
}

/// The check of one space map, bitmap by bitmap.
struct Check<'l> {
    map: SpaceMap,
    root: SpaceMapRoot,
    /// Counts above 2 that no bitmap has asked for yet.
    large: &'l [(u64, U32)],
    nr_allocated: u64,
}

impl<'l> Check<'l> {
    fn new(map: SpaceMap, root: SpaceMapRoot, large: &'l [(u64, U32)]) -> Self {
        Self {
            map,
            root,
            large,
            nr_allocated: 0,
        }
    }

    fn bitmaps<'i>(
        mut self,
        blocks: &TreeReader<'_>,
        entries: impl Iterator<Item = &'i RawIndexEntry>,
        found: &RefCounts,
    ) -> Result<(), Error> {
        for (bitmap, entry) in (0..).zip(entries) {
            let block = blocks.read(BlockKind::Bitmap, entry.blocknr.get())?;
            let body = &block[size_of::<BlockHeader>()..];
            self.bitmap(bitmap, body, found)?;
            if !self.agrees(bitmap, body, entry) {
                return Err(malformed(entry.blocknr.get(), Fault::IndexEntry));
            }
        }
        if let Some((block, _)) = self.large.first() {
            let fault = Fault::Overflow(*block);
            return Err(malformed(self.root.ref_count_root, fault));
        }
        if self.nr_allocated != self.root.nr_allocated {
            return Err(malformed(0, Fault::NrAllocated(self.root.nr_allocated)));
        }
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
            if stored != counted {
                return Err(Error::RefCount {
                    map: self.map,
                    block,
                    stored,
                    counted,
                });
            }
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
            _ => Err(malformed(self.root.ref_count_root, Fault::Overflow(block))),
        }
    }

    /// Whether the index entry tells the truth: the kernel looks for free blocks by it. Slots past the device's end are
    /// free, and must be zero, since the device may grow.
    fn agrees(&mut self, bitmap: u64, body: &[u8], entry: &RawIndexEntry) -> bool {
        let is_used = |i: &usize| decode_count(body, *i) != 0;
        let len = counts_in_bitmap(bitmap, self.root.nr_blocks);
        let used = (0..len).filter(is_used).count();
        self.nr_allocated += used as u64;
        let first_free = (0..COUNTS_PER_BITMAP).find(|i| !is_used(i));
        let none_free_before = entry.none_free_before.get() as usize;
        !(len..COUNTS_PER_BITMAP).any(|i| is_used(&i))
            && entry.nr_free.get() as usize == COUNTS_PER_BITMAP - used
            && none_free_before <= first_free.unwrap_or(COUNTS_PER_BITMAP)
    }
}

fn malformed(block: u64, fault: Fault) -> Error {
    Error::Malformed { block, fault }
}
