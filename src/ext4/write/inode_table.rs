//! All inodes of a file system, which are taken, and which comes next.

use std::sync::Arc;

use imbl::Vector;

use super::bitmap::Bitmap;
use super::group::Groups;
use super::inode::Inode;
use super::layout::Layout;
use crate::ext4::format::INODES_PER_BLOCK;
use crate::ext4::ino::Ino;

const PER_BLOCK: usize = INODES_PER_BLOCK as usize;

/// The inodes of one block of a table: what a change of one of them copies, in memory as on disk.
type TableBlock = Arc<[Inode; PER_BLOCK]>;

/// All inodes, kept up to the last one that was ever used.
#[derive(Clone, Debug)]
pub(super) struct InodeTable {
    blocks: Vector<TableBlock>,
    used: Bitmap,
    free: u32,
    total: u32,
    per_group: u32,
    /// Index (number less one) at which the next search starts. Numbers, like blocks, are used again only when the end
    /// was reached.
    cursor: u32,
}

impl InodeTable {
    pub(super) fn new(layout: &Layout) -> Self {
        Self {
            blocks: Vector::new(),
            used: Bitmap::new(layout.inodes()),
            free: layout.inodes(),
            total: layout.inodes(),
            per_group: layout.inodes_per_group,
            cursor: 0,
        }
    }

    pub(super) fn free(&self) -> u32 {
        self.free
    }

    /// The inode, which may be free; `None` for a number that was never used.
    pub(super) fn inode(&self, ino: Ino) -> Option<&Inode> {
        let at = ino.0.checked_sub(1)? as usize;
        Some(&self.blocks.get(at / PER_BLOCK)?[at % PER_BLOCK])
    }

    /// The inodes of a table block with the first one's number.
    pub(super) fn block(&self, index: u32) -> Option<(Ino, &[Inode])> {
        let block = self.blocks.get(index as usize)?;
        Some((Ino(index * INODES_PER_BLOCK + 1), &block[..]))
    }

    /// The inode, to be changed, which was taken before.
    pub(super) fn inode_mut(&mut self, ino: Ino) -> &mut Inode {
        let at = (ino.0 - 1) as usize;
        while self.blocks.len() <= at / PER_BLOCK {
            self.blocks.push_back(Arc::default());
        }
        &mut Arc::make_mut(&mut self.blocks[at / PER_BLOCK])[at % PER_BLOCK]
    }

    /// Takes the next free number.
    pub(super) fn take(&mut self, groups: &mut Groups, is_directory: bool) -> Option<Ino> {
        let index = self
            .used
            .first_clear(self.cursor..self.total)
            .or_else(|| self.used.first_clear(0..self.cursor))?;
        self.cursor = index + 1;
        self.used.set(index..index + 1);
        self.free -= 1;
        let group = &mut groups[(index / self.per_group) as usize];
        group.free_inodes -= 1;
        group.used_dirs += u16::from(is_directory);
        group.has_inode_bitmap = true;
        let behind = self.per_group - index % self.per_group - 1;
        group.unused_inodes = group
            .unused_inodes
            .min(u16::try_from(behind).expect("below 32768"));
        Some(Ino(index + 1))
    }

    /// Frees a number and forgets what was there.
    pub(super) fn free_inode(&mut self, groups: &mut Groups, ino: Ino) {
        let index = ino.0 - 1;
        let was_directory = self
            .inode(ino)
            .is_some_and(|inode| inode.directory().is_some());
        *self.inode_mut(ino) = Inode::default();
        self.used.clear(index..index + 1);
        self.free += 1;
        let group = &mut groups[(index / self.per_group) as usize];
        group.free_inodes += 1;
        group.used_dirs -= u16::from(was_directory);
    }

    /// The group of a number.
    pub(super) fn group(&self, ino: Ino) -> u32 {
        (ino.0 - 1) / self.per_group
    }

    /// A group's inode bitmap; bits beyond its last inode count as taken.
    pub(super) fn copy_bitmap(&self, group: u32, out: &mut [u8]) {
        let (bits, padding) = out.split_at_mut((self.per_group / 8) as usize);
        self.used.copy_bytes(group * (self.per_group / 64), bits);
        padding.fill(0xff);
    }
}
