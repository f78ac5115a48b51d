//! A child while it is being changed: what it takes, frees and has to write.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::state::{Delta, Dirty, Draft};
use super::{data, merge, small_file};
use crate::ext4::format::INODES_PER_BLOCK;
use crate::ext4::ino::Ino;
use crate::ext4::write::alloc::Open;
use crate::ext4::write::dir::{ChangedBlocks, Dir};
use crate::ext4::write::error::Error;
use crate::ext4::write::extents::{Blocks, Extent};
use crate::ext4::write::group::by_group;
use crate::ext4::write::image::{Image, Owner};
use crate::ext4::write::inode::Inode;
use crate::ext4::write::layout::{CLUSTER_BLOCKS, Layout};
use crate::ext4::write::xattr::{MAX_SHARERS, Set, StoredSet};
use crate::tree::{LayerTree, Meta};

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

    pub(super) fn inode(&self, ino: Ino) -> &Inode {
        self.image
            .inodes
            .inode(ino)
            .expect("a name points to an inode in use")
    }

    /// The inode, which has to be written.
    pub(super) fn inode_mut(&mut self, ino: Ino) -> &mut Inode {
        self.mark_inode(ino);
        self.image.inodes.inode_mut(ino)
    }

    pub(super) fn mark_inode(&mut self, ino: Ino) {
        let index = (ino.0 - 1) / INODES_PER_BLOCK;
        self.dirty
            .blocks
            .insert(self.image.constants.layout.inode_block(index));
    }

    pub(super) fn take_inode(&mut self, is_directory: bool) -> Result<Ino, Error> {
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
    pub(super) fn take_metadata(&mut self, wanted: u32) -> Result<Range<u32>, Error> {
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

    pub(super) fn take(&mut self, blocks: Range<u32>) {
        self.mark_groups(&blocks);
        self.image.space.take(&mut self.image.groups, blocks);
    }

    pub(super) fn free(&mut self, blocks: Range<u32>) {
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
    pub(super) fn no_space(&self, wanted: u32) -> Error {
        let taken: u64 = self.data.iter().map(|run| u64::from(run.blocks)).sum();
        let taken = self.metadata_taken + taken;
        Error::NoSpace {
            needed: self.metadata_taken + u64::from(wanted),
            available: self.image.space.available() + taken,
        }
    }

    /// Gives a directory the blocks it lacks and marks those that changed. Its inode is the caller's to write.
    pub(super) fn place_directory(
        &mut self,
        ino: Ino,
        dir: &mut Dir,
        touched: &ChangedBlocks,
    ) -> Result<(), Error> {
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
    pub(super) fn place_nodes(&mut self, ino: Ino, blocks: &mut Blocks) -> Result<(), Error> {
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
    pub(super) fn store(&mut self, set: Option<Set>) -> Result<Option<Arc<StoredSet>>, Error> {
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
        let stored = Arc::new(StoredSet {
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
    fn share(&mut self, stored: &StoredSet) -> bool {
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
