//! Which blocks are taken, and where the next ones come from.
//!
//! Space is handed out in whole free clusters, from a cursor that only moves forward and starts over at the end. A
//! child therefore never writes into a cluster of its parent that still holds something, and space that was freed is
//! not used again while there is other room. Blocks within a cluster are packed.

use std::ops::Range;

use super::bitmap::Bitmap;
use super::group::{Groups, by_group};
use super::layout::{CLUSTER_BLOCKS, Layout, group_start};
use crate::ext4::format::BLOCKS_PER_GROUP;

/// The blocks of a file system.
#[derive(Clone, Debug)]
pub(super) struct Space {
    used: Bitmap,
    free_blocks: u32,
    clusters: u32,
    /// The cluster at which the next search starts.
    cursor: u32,
}

/// Blocks that were handed out in whole clusters and are not yet taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    rest: Range<u32>,
}

impl Space {
    /// All blocks free; what lies beyond the end in the last group's bitmap counts as taken.
    pub(super) fn new(layout: &Layout) -> Self {
        let bits = layout.groups * BLOCKS_PER_GROUP;
        let mut used = Bitmap::new(bits);
        used.set(layout.blocks..bits);
        Self {
            used,
            free_blocks: layout.blocks,
            clusters: layout.clusters(),
            cursor: 0,
        }
    }

    pub(super) fn free_blocks(&self) -> u32 {
        self.free_blocks
    }

    /// Free blocks in clusters that hold nothing: what a layer can get.
    pub(super) fn available(&self) -> u64 {
        let free = (0..self.clusters).filter(|&cluster| self.is_free(cluster));
        free.count() as u64 * u64::from(CLUSTER_BLOCKS)
    }

    /// A group's block bitmap.
    pub(super) fn copy_bitmap(&self, group: u32, out: &mut [u8]) {
        self.used.copy_bytes(group_start(group) / 64, out);
    }

    /// Takes free blocks.
    pub(super) fn take(&mut self, groups: &mut Groups, blocks: Range<u32>) {
        let count = blocks.end - blocks.start;
        for (group, part) in by_group(blocks.start, count) {
            let group = &mut groups[group as usize];
            group.free_blocks -= u16::try_from(part).expect("at most a group");
            group.has_block_bitmap = true;
        }
        self.free_blocks -= count;
        self.used.set(blocks);
    }

    /// Frees taken blocks.
    pub(super) fn free(&mut self, groups: &mut Groups, blocks: Range<u32>) {
        let count = blocks.end - blocks.start;
        for (group, part) in by_group(blocks.start, count) {
            groups[group as usize].free_blocks += u16::try_from(part).expect("at most a group");
        }
        self.free_blocks += count;
        self.used.clear(blocks);
    }

    /// Up to `wanted` blocks in one run, which the caller takes. If no open ones are left, opens the next free clusters,
    /// enough for the `expected` blocks that are still to come.
    pub(super) fn next_run(
        &mut self,
        groups: &Groups,
        open: &mut Open,
        (wanted, expected): (u32, u64),
    ) -> Option<Range<u32>> {
        if open.rest.is_empty() {
            open.rest = self.open_clusters(groups, expected)?;
        }
        let count = wanted.min(open.rest.end - open.rest.start);
        let run = open.rest.start..open.rest.start + count;
        open.rest.start = run.end;
        Some(run)
    }

    /// A run of free blocks of this very length at a cluster's start, wherever the first one is.
    pub(super) fn find_contiguous(&self, blocks: u32) -> Option<Range<u32>> {
        let wanted = blocks.div_ceil(CLUSTER_BLOCKS);
        let mut start = 0;
        for cluster in 0..self.clusters {
            if !self.is_free(cluster) {
                start = cluster + 1;
            } else if cluster + 1 - start == wanted {
                let first = start * CLUSTER_BLOCKS;
                return Some(first..first + blocks);
            }
        }
        None
    }

    /// The next free clusters, no more than `expected` blocks need, and moves the cursor behind them.
    fn open_clusters(&mut self, groups: &Groups, expected: u64) -> Option<Range<u32>> {
        let first = self
            .first_free(groups, self.cursor..self.clusters)
            .or_else(|| self.first_free(groups, 0..self.cursor))?;
        let wanted = expected.div_ceil(u64::from(CLUSTER_BLOCKS)).max(1);
        let mut end = first + 1;
        while u64::from(end - first) < wanted && end < self.clusters && self.is_free(end) {
            end += 1;
        }
        self.cursor = end;
        Some(first * CLUSTER_BLOCKS..end * CLUSTER_BLOCKS)
    }

    fn first_free(&self, groups: &Groups, clusters: Range<u32>) -> Option<u32> {
        const PER_GROUP: u32 = BLOCKS_PER_GROUP / CLUSTER_BLOCKS;
        let mut at = clusters.start;
        while at < clusters.end {
            let group = at / PER_GROUP;
            let end = ((group + 1) * PER_GROUP).min(clusters.end);
            if u32::from(groups[group as usize].free_blocks) >= CLUSTER_BLOCKS
                && let Some(found) = (at..end).find(|&cluster| self.is_free(cluster))
            {
                return Some(found);
            }
            at = end;
        }
        None
    }

    fn is_free(&self, cluster: u32) -> bool {
        let block = cluster * CLUSTER_BLOCKS;
        (self.used.word(block / 64) >> (block % 64)).trailing_zeros() >= CLUSTER_BLOCKS
    }
}
