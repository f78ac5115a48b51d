//! One file system as a value.

use std::sync::Arc;

use imbl::OrdMap;

use super::alloc::Space;
use super::dir::Rules;
use super::extents::{Blocks, Extent};
use super::group::Groups;
use super::inode::Body;
use super::inode_table::InodeTable;
use super::layout::Layout;
use super::xattr::StoredSet;
use crate::ext4::ino::Ino;
use crate::ext4::params::{Params, Usage};
use crate::tree::Timestamp;

/// A planned file system. Cloning it costs nothing; children share what they do not change.
#[derive(Clone, Debug)]
pub struct Image {
    pub(super) constants: Arc<Constants>,
    pub(super) space: Space,
    pub(super) groups: Groups,
    pub(super) inodes: InodeTable,
    /// Every metadata block that the layout does not place.
    pub(super) owners: OrdMap<u32, Owner>,
    pub(super) directories: u32,
}

/// What no child changes.
#[derive(Debug)]
pub(super) struct Constants {
    pub(super) params: Params,
    pub(super) layout: Layout,
    pub(super) rules: Rules,
}

/// What a metadata block is made from.
#[derive(Clone, Debug)]
pub(super) enum Owner {
    /// A directory's block by its number in it.
    Directory { ino: Ino, logical: u32 },
    /// A node of an inode's extent tree.
    ExtentNode { ino: Ino, index: u32 },
    /// A long symbolic link's target or a small file's bytes.
    InBlock(Ino),
    /// Extended attributes and how many inodes share them.
    Xattrs {
        sharers: u32,
        stored: Arc<StoredSet>,
    },
    /// The journal's first block; the others are zero.
    Journal,
}

/// Where a regular file's bytes belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLayout {
    /// Length in bytes.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Runs of blocks that hold data, ascending within the file.
    pub extents: Vec<Extent>,
}

impl Image {
    /// What all images of the pool share.
    pub fn params(&self) -> &Params {
        &self.constants.params
    }

    /// How much is in use.
    pub fn usage(&self) -> Usage {
        Usage {
            blocks: self.constants.layout.blocks,
            free_blocks: self.space.free_blocks(),
            inodes: self.constants.layout.inodes(),
            free_inodes: self.inodes.free(),
            directories: self.directories,
        }
    }

    /// Where a regular file's bytes belong; `None` when the inode is free or no regular file filled from elsewhere.
    pub fn file(&self, ino: Ino) -> Option<FileLayout> {
        let inode = self.inodes.inode(ino)?;
        let Body::File(blocks) = &inode.body else {
            return None;
        };
        Some(FileLayout {
            size: inode.size,
            mtime: inode.mtime.timestamp(),
            ctime: inode.ctime.timestamp(),
            extents: blocks.extents().collect(),
        })
    }

    /// The blocks of the journal.
    pub(super) fn journal(&self) -> &Blocks {
        self.inodes
            .inode(Ino::JOURNAL)
            .and_then(|inode| inode.blocks())
            .unwrap_or(&Blocks::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::write::draft::{Delta, Draft};

    #[test]
    fn images_go_to_other_threads() {
        fn is_shared<T: Send + Sync>() {}
        is_shared::<Image>();
        is_shared::<Draft>();
        is_shared::<Delta>();
    }
}
