//! Taking names away: links, and what goes with the last one.

use super::state::Draft;
use crate::ext4::ino::Ino;
use crate::ext4::write::extents::Extent;
use crate::ext4::write::image::Owner;
use crate::ext4::write::inode::Body;
use crate::ext4::write::xattr::StoredSet;

impl Draft {
    /// Drops one name of an inode whose entry is gone; with the last one the inode and, for a directory, all below it.
    pub(super) fn release(&mut self, ino: Ino) {
        // A stack of its own: directories may be nested deeper than the thread's stack allows.
        let mut names = vec![ino];
        while let Some(ino) = names.pop() {
            let inode = self.inode(ino);
            if let Some(dir) = inode.directory() {
                names.extend(dir.entries().map(|entry| entry.ino));
            } else if inode.links > 1 {
                self.inode_mut(ino).links -= 1;
                continue;
            }
            self.drop_inode(ino);
        }
    }

    fn drop_inode(&mut self, ino: Ino) {
        let inode = self.inode(ino).clone();
        match &inode.body {
            Body::File(blocks) => {
                for extent in blocks.extents() {
                    self.free(extent.physical..extent.physical + extent.blocks);
                }
                self.free_metadata(blocks.nodes().iter().copied());
            }
            Body::Directory(dir) => {
                self.free_metadata_runs(dir.blocks.extents());
                self.free_metadata(dir.blocks.nodes().iter().copied());
                self.image.directories -= 1;
            }
            Body::Content(text) | Body::Symlink(text) => self.free_metadata(text.block),
            Body::Free | Body::Device { .. } | Body::Bare => {}
        }
        if let Some(stored) = &inode.xattrs {
            self.unshare(stored);
        }
        self.mark_inode(ino);
        let image = &mut self.image;
        self.dirty.inode_groups.insert(image.inodes.group(ino));
        image.inodes.free_inode(&mut image.groups, ino);
    }

    /// Counts one inode less for a stored set; with the last one goes its block.
    pub(super) fn unshare(&mut self, stored: &StoredSet) {
        let Some(block) = stored.block else { return };
        match self.image.owners.get_mut(&block) {
            Some(Owner::Xattrs { sharers, .. }) if *sharers > 1 => {
                *sharers -= 1;
                self.dirty.blocks.insert(block);
            }
            _ => {
                self.stored.remove(&stored.set);
                self.free_metadata([block]);
            }
        }
    }

    pub(super) fn free_metadata_runs(&mut self, runs: impl IntoIterator<Item = Extent>) {
        for run in runs {
            self.free_metadata(run.physical..run.physical + run.blocks);
        }
    }

    /// Frees metadata blocks. One that this draft was to write need not be written any more, and its cluster may become
    /// another's.
    fn free_metadata(&mut self, blocks: impl IntoIterator<Item = u32>) {
        for block in blocks {
            self.free(block..block + 1);
            self.image.owners.remove(&block);
            self.dirty.blocks.remove(&block);
        }
    }
}
