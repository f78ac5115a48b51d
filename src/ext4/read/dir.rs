//! Directories: their blocks, and their index as a whole.
//!
//! Source: linux v6.6 `fs/ext4/namei.c`, `Documentation/filesystems/ext4/directory.rst`. A block is parsed by itself, so
//! that one that did not change is never read again.

use std::sync::Arc;

use super::dirent::{DirBlock, Rules};
use super::error::Error;
use super::extents::Mapping;
use super::fault::{Fault, IndexFault, InodeFault};
use super::htree;
use super::inode::{FLAG_INDEX, InodeFields};
use super::sums::InodeSums;
use super::work::Work;
use crate::ext4::hash::HashKind;
use crate::ext4::ino::Ino;

/// Blocks with faults after which the rest of a directory is not read: one of zeros may be of any size.
const MAX_BAD_BLOCKS: usize = 64;

/// What a directory holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    pub(super) blocks: Vec<BlockAt>,
    hash: Option<HashKind>,
    /// What the checksums of its blocks begin with; `None` if none was read.
    sums: Option<InodeSums>,
    /// Where `..` points.
    pub(super) parent: Option<Ino>,
    /// Entries that say they are directories.
    pub(super) subdirectories: u32,
}

/// A block and where it lies.
#[derive(Clone, Debug)]
pub(super) struct BlockAt {
    pub(super) logical: u32,
    physical: u64,
    pub(super) block: Arc<DirBlock>,
}

impl Directory {
    /// Reads the blocks of a directory, but for those that are still as they were when it was read as `old`.
    pub(super) fn read(
        work: &Work<'_>,
        (ino, own, mapping): (Ino, &InodeFields, &Mapping),
        old: Option<&Self>,
        faults: &mut Vec<Fault>,
    ) -> Result<Self, Error> {
        let mut directory = Self::default();
        if mapping.is_contested {
            return Ok(directory);
        }
        let mut rules = Rules::new(&work.geometry, ino, own);
        directory.sums = Some(rules.sums);
        let mut bad = 0;
        for run in &mapping.runs {
            for at in 0..run.blocks {
                let (logical, physical) = (run.logical + at, run.physical + u64::from(at));
                let kept = old.and_then(|old| old.still(&rules, (logical, physical), work));
                let block = match kept {
                    Some(block) => block,
                    None => Arc::new(DirBlock::parse(
                        &rules,
                        logical,
                        &work.read_block(physical)?,
                    )),
                };
                bad += usize::from(!block.faults.is_empty());
                if bad > MAX_BAD_BLOCKS {
                    return Ok(directory);
                }
                directory.add(
                    BlockAt {
                        logical,
                        physical,
                        block,
                    },
                    &mut rules,
                    ino,
                    faults,
                );
            }
        }
        if own.has(FLAG_INDEX) {
            let all = htree::check(&directory.blocks, &work.geometry);
            faults.extend(all.into_iter().map(|fault| Fault::Inode {
                ino,
                fault: InodeFault::Index(fault),
            }));
        }
        Ok(directory)
    }

    /// The block that was there, if it is the same and nothing in it was written since.
    fn still(
        &self,
        rules: &Rules<'_>,
        (logical, physical): (u32, u64),
        work: &Work<'_>,
    ) -> Option<Arc<DirBlock>> {
        // The inode's generation is part of every block's checksum, so a block is wrong when that changes.
        if self.sums != Some(rules.sums) {
            return None;
        }
        // Leaves were hashed by what the root said.
        if logical > 0 && self.hash != rules.hash {
            return None;
        }
        let at = self
            .blocks
            .binary_search_by_key(&logical, |placed| placed.logical)
            .ok()?;
        let placed = &self.blocks[at];
        let is_same = placed.physical == physical
            && placed.block.is_indexed == rules.is_indexed
            && !work.is_changed(physical);
        is_same.then(|| Arc::clone(&placed.block))
    }

    fn add(&mut self, placed: BlockAt, rules: &mut Rules<'_>, ino: Ino, faults: &mut Vec<Fault>) {
        let block = &placed.block;
        if placed.logical == 0 {
            self.parent = block.parent;
            if let Some(root) = &block.root {
                rules.hash = rules.geometry.hash_kind(root.hash_version);
                self.hash = rules.hash;
            }
        }
        self.subdirectories += block.subdirectories;
        faults.extend(block.faults.iter().map(|fault| Fault::Directory {
            ino,
            block: placed.logical,
            fault: fault.clone(),
        }));
        self.blocks.push(placed);
    }

    /// Blocks of `self` that `other` has not in the same place.
    pub(super) fn blocks_beyond<'a>(
        &'a self,
        other: Option<&'a Self>,
    ) -> impl Iterator<Item = &'a DirBlock> {
        self.blocks.iter().filter_map(move |placed| {
            let others = other.map_or(&[][..], |other| &other.blocks);
            let at = others.binary_search_by_key(&placed.logical, |placed| placed.logical);
            let is_shared = at.is_ok_and(|at| Arc::ptr_eq(&others[at].block, &placed.block));
            (!is_shared).then_some(&*placed.block)
        })
    }
}

/// A fault of the index at a block.
pub(super) fn pointer_fault(block: u32, pointers: u32) -> Option<IndexFault> {
    (pointers != 1).then_some(IndexFault::Pointers { block, pointers })
}
