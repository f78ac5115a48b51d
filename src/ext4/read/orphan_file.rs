//! The orphan file: a list of inodes that were removed while open, in a file of its own.
//!
//! Source: linux v6.6 `fs/ext4/orphan.c`.

use super::error::Error;
use super::fault::{Fault, InodeFault};
use super::view::Unit;
use super::work::Work;
use crate::ext4::format::ORPHAN_MAGIC;

/// Bytes of magic number and checksum at a block's end.
const TAIL: usize = 8;
/// Most blocks that are looked at; the kernel makes 512 at most.
const MAX_BLOCKS: usize = 4096;

impl Work<'_> {
    pub(super) fn judge_orphan_file(&mut self) -> Result<(), Error> {
        let Some(ino) = self.geometry.orphan_file else {
            return Ok(());
        };
        let Some(inode) = self.view.inodes.get(&ino).cloned() else {
            let fault = InodeFault::OrphanFile {
                block: 0,
                what: "missing",
            };
            self.set_faults(Unit::OrphanFile, vec![Fault::Inode { ino, fault }]);
            return Ok(());
        };
        let sums = self.geometry.sums.of_inode(ino, inode.own.generation);
        let mut faults = Vec::new();
        let blocks = inode.mapping.runs.iter().flat_map(|run| {
            (0..u64::from(run.blocks)).map(|at| (u64::from(run.logical) + at, run.physical + at))
        });
        let mut next = 0;
        for (logical, physical) in blocks.take(MAX_BLOCKS) {
            if logical != next {
                break;
            }
            next += 1;
            let bytes = self.read_block(physical)?;
            let (inodes, tail) = bytes.split_at(bytes.len() - TAIL);
            let what = if tail[..4] != ORPHAN_MAGIC.to_le_bytes() {
                "wrong magic number"
            } else if self.geometry.sums.of_all()
                && tail[4..] != sums.sum(&[&physical.to_le_bytes(), inodes]).to_le_bytes()
            {
                "wrong checksum"
            } else if inodes.iter().any(|&byte| byte != 0) && !self.view.superblock.orphan_present {
                "names inodes, but orphan_present is not set"
            } else {
                continue;
            };
            faults.push(InodeFault::OrphanFile {
                block: logical,
                what,
            });
        }
        if next * u64::from(self.geometry.block_bytes) != inode.own.size {
            faults.push(InodeFault::OrphanFile {
                block: next,
                what: "hole",
            });
        }
        let faults = faults.into_iter().map(|fault| Fault::Inode { ino, fault });
        self.set_faults(Unit::OrphanFile, faults.collect());
        Ok(())
    }
}
