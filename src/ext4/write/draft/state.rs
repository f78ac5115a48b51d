//! A draft: the image that it began from, and what was changed since.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::ext4::ino::Ino;
use crate::ext4::write::alloc::Open;
use crate::ext4::write::dirent::{FileType, MAX_NAME};
use crate::ext4::write::error::Problem;
use crate::ext4::write::image::Image;
use crate::ext4::write::inode::{Body, Inode, PackedTime};
use crate::ext4::write::xattr::{Set, StoredSet};
use crate::tree::{Meta, NodeId};

/// A child of an [`Image`] that takes changes.
#[derive(Clone, Debug)]
pub struct Draft {
    pub(super) image: Image,
    pub(super) dirty: Dirty,
    /// The cluster that metadata blocks come from.
    pub(super) open: Open,
    pub(super) metadata_taken: u64,
    pub(super) data: Vec<DataRun>,
    /// Sets of attributes that this child stores already.
    pub(super) stored: HashMap<Set, Arc<StoredSet>>,
    pub(super) has_layer: bool,
}

/// What was changed and must be written.
#[derive(Clone, Debug, Default)]
pub(super) struct Dirty {
    pub(super) blocks: BTreeSet<u32>,
    /// Groups whose block bitmap or count of free blocks changed.
    pub(super) block_groups: BTreeSet<u32>,
    /// Groups whose inode bitmap or count of inodes changed.
    pub(super) inode_groups: BTreeSet<u32>,
}

/// What has to be written for an image that its parent has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Clusters of 64 KiB to be written as [`Image::encode_cluster`] makes them, ascending.
    pub metadata: Vec<u32>,
    /// Blocks to be filled with files' bytes, ascending by place. Their clusters hold nothing else: neither metadata nor
    /// anything of the parent.
    pub data: Vec<DataRun>,
    /// Blocks of 4 KiB in the metadata clusters that differ from the parent's.
    pub metadata_blocks: u64,
    /// Blocks of 4 KiB in all data runs.
    pub data_blocks: u64,
}

/// A run of one file's blocks; what the file's last block holds behind its end must be zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRun {
    /// The file in the layer.
    pub node: NodeId,
    /// The file in the image.
    pub ino: Ino,
    /// The first block's place in the file, in blocks of 4 KiB.
    pub logical: u32,
    /// The first block's place in the file system, in blocks of 4 KiB.
    pub physical: u32,
    /// Blocks of 4 KiB.
    pub blocks: u32,
}

/// An inode of these attributes that holds nothing yet.
pub(super) fn new_inode(file_type: FileType, meta: &Meta) -> Result<Inode, Problem> {
    Ok(Inode {
        size: 0,
        atime: PackedTime::new(meta.atime)?,
        ctime: PackedTime::new(meta.ctime)?,
        mtime: PackedTime::new(meta.mtime)?,
        xattrs: None,
        body: Body::Free,
        uid: meta.uid,
        gid: meta.gid,
        mode: file_type.mode() | meta.mode & 0o7777,
        links: 1,
    })
}

/// Whether a directory can hold a name.
pub(super) fn check_name(name: &[u8]) -> Result<(), Problem> {
    let is_bad = name.is_empty()
        || name.len() > MAX_NAME
        || name.contains(&0)
        || name.contains(&b'/')
        || name == b"."
        || name == b"..";
    if is_bad {
        return Err(Problem::Name { name: name.into() });
    }
    Ok(())
}
