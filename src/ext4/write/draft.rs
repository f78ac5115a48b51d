//! A child while it is being changed: what it takes, frees and has to write.

mod data;
mod empty;
mod merge;
mod release;
mod small_file;

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use super::alloc::Open;
use super::dir::{Dir, Touched};
use super::dirent::{FileType, MAX_NAME};
use super::error::{Error, Problem};
use super::extents::{Blocks, Extent};
use super::group::by_group;
use super::image::{Image, Owner};
use super::inode::{Body, Inode, PackedTime};
use super::layout::{CLUSTER_BLOCKS, Layout};
use super::xattr::{MAX_SHARERS, Set, Stored};
use crate::ext4::format::INODES_PER_BLOCK;
use crate::ext4::ino::Ino;
use crate::tree::{LayerTree, Meta, NodeId};

pub(super) use empty::format_draft;

/// A child of an [`Image`] that takes changes.
#[derive(Clone, Debug)]
pub struct Draft {
    image: Image,
    dirty: Dirty,
    /// The cluster that metadata blocks come from.
    open: Open,
    metadata_taken: u64,
    data: Vec<DataRun>,
    /// Sets of attributes that this child stores already.
    stored: HashMap<Set, Arc<Stored>>,
    has_layer: bool,
}

/// What was changed and must be written.
#[derive(Clone, Debug, Default)]
struct Dirty {
    blocks: BTreeSet<u32>,
    /// Groups whose block bitmap or count of free blocks changed.
    block_groups: BTreeSet<u32>,
    /// Groups whose inode bitmap or count of inodes changed.
    inode_groups: BTreeSet<u32>,
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

impl Draft {
    pub(super) fn new(image: Image) -> Self {
        Self {
            image,
            dirty: Dirty::default(),
            open: Open::default(),
            metadata_taken: 0,
            data: Vec::new(),
            stored: HashMap::new(),
            has_layer: false,
        }
    }

    /// Applies a layer onto the directory `at` of the root, which is made if it is not there and takes the attributes of
    /// the layer's root. A draft takes one layer.
    ///
    /// # Errors
    ///
    /// [`Error::Entry`] for what ext4 cannot hold, [`Error::NoSpace`], [`Error::NoInodes`], [`Error::SecondLayer`]. The
    /// draft is then as before.
    pub fn apply(&mut self, at: &[u8], layer: &LayerTree) -> Result<(), Error> {
        if self.has_layer {
            return Err(Error::SecondLayer);
        }
        let mut changed = self.clone();
        changed.has_layer = true;
        if let Err(error) = merge::merge(&mut changed, at, layer) {
            return Err(complete(error, data::total_blocks(layer)));
        }
        *self = changed;
        Ok(())
    }

    /// Creates a file in the root directory whose bytes, 4096 at most, are part of the metadata. A file of that name is
    /// replaced.
    ///
    /// # Errors
    ///
    /// [`Error::Entry`] for content or attributes that do not fit and for a directory of that name, [`Error::NoSpace`],
    /// [`Error::NoInodes`]. The draft is then as before.
    pub fn add_file(&mut self, name: &[u8], meta: &Meta, content: &[u8]) -> Result<(), Error> {
        let mut changed = self.clone();
        small_file::add(&mut changed, name, (meta, content))?;
        *self = changed;
        Ok(())
    }

    /// The child, and what it has to write.
    pub fn finish(mut self) -> (Image, Delta) {
        let layout = &self.image.constants.layout;
        let dirty = &mut self.dirty;
        for &group in &dirty.block_groups {
            dirty.blocks.insert(layout.block_bitmap(group));
        }
        for &group in &dirty.inode_groups {
            dirty.blocks.insert(layout.inode_bitmap(group));
        }
        for &group in dirty.block_groups.union(&dirty.inode_groups) {
            // The superblock's counts change with those of any group.
            dirty.blocks.extend([0, Layout::descriptor_block(group)]);
        }
        let mut metadata: Vec<u32> = dirty
            .blocks
            .iter()
            .map(|block| block / CLUSTER_BLOCKS)
            .collect();
        metadata.dedup();
        self.data.sort_unstable_by_key(|run| run.physical);
        let delta = Delta {
            metadata,
            metadata_blocks: dirty.blocks.len() as u64,
            data_blocks: self.data.iter().map(|run| u64::from(run.blocks)).sum(),
            data: self.data,
        };
        (self.image, delta)
    }

    fn inode(&self, ino: Ino) -> &Inode {
        self.image
            .inodes
            .inode(ino)
            .expect("a name points to an inode in use")
    }

    /// The inode, which has to be written.
    fn inode_mut(&mut self, ino: Ino) -> &mut Inode {
        self.mark_inode(ino);
        self.image.inodes.inode_mut(ino)
    }

    fn mark_inode(&mut self, ino: Ino) {
        let index = (ino.0 - 1) / INODES_PER_BLOCK;
        self.dirty
            .blocks
            .insert(self.image.constants.layout.inode_block(index));
    }

    fn take_inode(&mut self, is_directory: bool) -> Result<Ino, Error> {
        let image = &mut self.image;
        let ino = image
            .inodes
            .take(&mut image.groups, is_directory)
            .ok_or_else(|| Error::NoInodes {
                inodes: image.constants.layout.inodes(),
            })?;
        image.directories += u32::from(is_directory);
        self.dirty.inode_groups.insert(image.inodes.group(ino));
        Ok(ino)
    }

    /// Takes up to `wanted` blocks for metadata, which have to be written.
    fn take_metadata(&mut self, wanted: u32) -> Result<Range<u32>, Error> {
        let image = &mut self.image;
        let run = image
            .space
            .next_run(&image.groups, &mut self.open, (wanted, wanted.into()))
            .ok_or_else(|| self.no_space(wanted))?;
        self.take(run.clone());
        self.metadata_taken += u64::from(run.end - run.start);
        self.dirty.blocks.extend(run.clone());
        Ok(run)
    }

    fn take(&mut self, blocks: Range<u32>) {
        self.mark_groups(&blocks);
        self.image.space.take(&mut self.image.groups, blocks);
    }

    fn free(&mut self, blocks: Range<u32>) {
        self.mark_groups(&blocks);
        self.image.space.free(&mut self.image.groups, blocks);
    }

    fn mark_groups(&mut self, blocks: &Range<u32>) {
        let groups = by_group(blocks.start, blocks.end - blocks.start);
        self.dirty
            .block_groups
            .extend(groups.map(|(group, _)| group));
    }

    /// Metadata for which there is no room: `wanted` blocks beyond what was taken.
    fn no_space(&self, wanted: u32) -> Error {
        let taken: u64 = self.data.iter().map(|run| u64::from(run.blocks)).sum();
        let taken = self.metadata_taken + taken;
        Error::NoSpace {
            needed: self.metadata_taken + u64::from(wanted),
            available: self.image.space.available() + taken,
        }
    }

    /// Gives a directory the blocks it lacks and marks those that changed. Its inode is the caller's to write.
    fn place_directory(&mut self, ino: Ino, dir: &mut Dir, touched: &Touched) -> Result<(), Error> {
        let mut logical = dir.blocks.nr_blocks();
        let grows = logical < dir.nr_blocks();
        while logical < dir.nr_blocks() {
            let run = self.take_metadata(dir.nr_blocks() - logical)?;
            dir.blocks.append(Extent {
                logical,
                physical: run.start,
                blocks: run.end - run.start,
            });
            for block in run {
                let owner = Owner::Directory { ino, logical };
                self.image.owners.insert(block, owner);
                logical += 1;
            }
        }
        let places = touched
            .iter()
            .filter_map(|&block| dir.blocks.physical(block));
        self.dirty.blocks.extend(places);
        if grows {
            self.place_nodes(ino, &mut dir.blocks)?;
        }
        Ok(())
    }

    /// Gives an extent tree the nodes it lacks; all of them have to be written.
    fn place_nodes(&mut self, ino: Ino, blocks: &mut Blocks) -> Result<(), Error> {
        for _ in 0..blocks.missing_nodes() {
            blocks.add_node(self.take_metadata(1)?.start);
        }
        for (index, &block) in (0..).zip(blocks.nodes()) {
            self.image
                .owners
                .insert(block, Owner::ExtentNode { ino, index });
            self.dirty.blocks.insert(block);
        }
        Ok(())
    }

    /// Stores a set of attributes for one more inode.
    fn store(&mut self, set: Option<Set>) -> Result<Option<Arc<Stored>>, Error> {
        let Some(set) = set else { return Ok(None) };
        if let Some(stored) = self.stored.get(&set).cloned()
            && self.share(&stored)
        {
            return Ok(Some(stored));
        }
        let block = if set.fits_inode() {
            None
        } else {
            Some(self.take_metadata(1)?.start)
        };
        let stored = Arc::new(Stored {
            set: set.clone(),
            block,
        });
        if let Some(block) = block {
            let owner = Owner::Xattrs {
                sharers: 1,
                stored: Arc::clone(&stored),
            };
            self.image.owners.insert(block, owner);
        }
        self.stored.insert(set, Arc::clone(&stored));
        Ok(Some(stored))
    }

    /// Counts one more inode for a stored set, if its block takes one more.
    fn share(&mut self, stored: &Stored) -> bool {
        let Some(block) = stored.block else {
            return true;
        };
        match self.image.owners.get_mut(&block) {
            Some(Owner::Xattrs { sharers, .. }) if *sharers < MAX_SHARERS => {
                *sharers += 1;
                true
            }
            _ => false,
        }
    }
}

/// An error that tells all the space a layer takes, whose files have `data` blocks.
fn complete(error: Error, data: u64) -> Error {
    match error {
        Error::NoSpace { needed, available } => Error::NoSpace {
            needed: needed + data,
            available,
        },
        other => other,
    }
}

/// An inode of these attributes that holds nothing yet.
fn new_inode(file_type: FileType, meta: &Meta) -> Result<Inode, Problem> {
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
fn check_name(name: &[u8]) -> Result<(), Problem> {
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
