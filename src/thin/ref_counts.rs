//! Reference counts by block, in pages of one bitmap each.

use std::collections::BTreeMap;

use super::format::{COUNTS_PER_BITMAP, index};

/// Counts above this are kept apart from the bitmaps.
pub(super) const MAX_SMALL_COUNT: u32 = 2;

const PAGE: u64 = COUNTS_PER_BITMAP as u64;

static UNUSED: [u32; COUNTS_PER_BITMAP] = [0; COUNTS_PER_BITMAP];

/// How often each block is pointed to. Memory goes by the blocks in use, not by the size of the device.
#[derive(Debug, Default)]
pub(super) struct RefCounts {
    pages: BTreeMap<u64, Box<[u32]>>,
}

impl RefCounts {
    /// Counts one more reference to each of `len` blocks from `first` on.
    pub(super) fn add_run(&mut self, first: u64, len: u64) {
        let mut block = first;
        while block < first + len {
            let slot = block % PAGE;
            let part = (PAGE - slot).min(first + len - block);
            let page = self
                .pages
                .entry(block / PAGE)
                .or_insert_with(|| UNUSED.into());
            for count in &mut page[index(slot)..index(slot + part)] {
                *count += 1;
            }
            block += part;
        }
    }

    /// References to a block.
    pub(super) fn count(&self, block: u64) -> u32 {
        self.page(block / PAGE)[index(block % PAGE)]
    }

    /// References to all blocks of a bitmap.
    pub(super) fn page(&self, bitmap: u64) -> &[u32] {
        self.pages.get(&bitmap).map_or(&UNUSED, |page| page)
    }

    /// The blocks whose counts no bitmap can hold, ascending.
    pub(super) fn large(&self) -> impl Iterator<Item = (u64, u32)> {
        self.pages.iter().flat_map(|(bitmap, page)| {
            (bitmap * PAGE..)
                .zip(page.iter().copied())
                .filter(|(_, count)| *count > MAX_SMALL_COUNT)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_counted_across_pages() {
        let mut counts = RefCounts::default();
        counts.add_run(16_318, 4);
        for _ in 0..3 {
            counts.add_run(16_319, 2);
        }
        let around: Vec<_> = (16_317..16_323).map(|block| counts.count(block)).collect();
        assert_eq!(around, [0, 1, 4, 4, 1, 0]);
        assert_eq!(
            counts.large().collect::<Vec<_>>(),
            [(16_319, 4), (16_320, 4)]
        );
        assert_eq!(counts.page(7)[0], 0);
    }
}
