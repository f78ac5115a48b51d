//! The empty file system that all others descend from.

use std::sync::Arc;

use imbl::OrdMap;

use super::state::{Draft, new_inode};
use crate::ext4::checksum::Summer;
use crate::ext4::format::BLOCK;
use crate::ext4::ino::Ino;
use crate::ext4::params::Params;
use crate::ext4::write::alloc::Space;
use crate::ext4::write::dir::{ChangedBlocks, Dir, Rules};
use crate::ext4::write::dirent::{Entry, FileType};
use crate::ext4::write::error::{Error, Problem};
use crate::ext4::write::extents::{Blocks, Extent};
use crate::ext4::write::group::empty_groups;
use crate::ext4::write::image::{Constants, Image, Owner};
use crate::ext4::write::inode::{Body, Inode};
use crate::ext4::write::inode_table::InodeTable;
use crate::ext4::write::layout::{FIRST_INODE, Layout, group_start};
use crate::tree::Meta;

/// A file system as `mkfs` leaves it, all of which has to be written.
pub(in crate::ext4) fn format_draft(params: Params) -> Result<Draft, Error> {
    let layout = Layout::new(&params)?;
    let rules = Rules {
        summer: Summer::new(params.checksums, params.uuid),
        seed: params.hash_seed,
    };
    let mut draft = Draft::new(Image {
        space: Space::new(&layout),
        groups: empty_groups(&layout),
        inodes: InodeTable::new(&layout),
        owners: OrdMap::new(),
        directories: 0,
        constants: Arc::new(Constants {
            params,
            layout,
            rules,
        }),
    });
    draft.take_fixed();
    for number in 1..=FIRST_INODE {
        let ino = Ino(number);
        draft.take_inode(ino == Ino::ROOT || ino == Ino::LOST_AND_FOUND)?;
    }
    draft.make_journal()?;
    draft.make_directories()?;
    Ok(draft)
}

impl Draft {
    /// The root directory, to be changed and put back.
    pub(super) fn root(&self) -> Dir {
        let root = self.inode(Ino::ROOT).directory();
        (**root.expect("inode 2 is a directory")).clone()
    }

    /// Puts the root directory back.
    pub(super) fn put_root(&mut self, mut root: Dir, touched: &ChangedBlocks) -> Result<(), Error> {
        self.place_directory(Ino::ROOT, &mut root, touched)?;
        self.inode_mut(Ino::ROOT).body = Body::Directory(Arc::new(root));
        Ok(())
    }

    /// Takes all blocks whose place follows from the layout.
    fn take_fixed(&mut self) {
        let constants = Arc::clone(&self.image.constants);
        let layout = &constants.layout;
        for group in 0..layout.groups {
            let flags = self.image.groups[group as usize].has_block_bitmap;
            let copy = group_start(group)..group_start(group) + layout.copy_blocks(group);
            self.dirty.blocks.extend(copy.clone());
            self.image.space.take(&mut self.image.groups, copy);
            // A copy of the superblock alone needs no bitmap: its place is known.
            self.image.groups[group as usize].has_block_bitmap = flags;
        }
        for group in 0..layout.groups {
            for block in [layout.block_bitmap(group), layout.inode_bitmap(group)] {
                self.image
                    .space
                    .take(&mut self.image.groups, block..block + 1);
            }
            let table = layout.inode_table(group);
            self.image
                .space
                .take(&mut self.image.groups, table..table + layout.table_blocks);
        }
        let groups = (0..).zip(&self.image.groups);
        let with_bitmap = groups.filter(|(_, group)| group.has_block_bitmap);
        self.dirty
            .block_groups
            .extend(with_bitmap.map(|(number, _)| number));
        self.dirty.blocks.insert(layout.inode_block(0));
    }

    fn make_journal(&mut self) -> Result<(), Error> {
        let layout = &self.image.constants.layout;
        let blocks = layout.journal_blocks();
        let run = self
            .image
            .space
            .find_contiguous(blocks)
            .ok_or(Error::TooSmall {
                blocks: layout.blocks,
            })?;
        let start = run.start;
        self.take(run);
        self.dirty.blocks.insert(start);
        self.image.owners.insert(start, Owner::Journal);
        *self.inode_mut(Ino::JOURNAL) = Inode {
            size: u64::from(blocks) * BLOCK as u64,
            body: Body::File(Blocks::from(vec![Extent {
                logical: 0,
                physical: start,
                blocks,
            }])),
            ..self.initial(FileType::Regular, 0o600)?
        };
        Ok(())
    }

    fn make_directories(&mut self) -> Result<(), Error> {
        let lost_and_found = Entry {
            name: b"lost+found",
            ino: Ino::LOST_AND_FOUND,
            file_type: FileType::Directory as u8,
        };
        let directories: [(Ino, u16, &[Entry<'_>]); 2] = [
            (Ino::ROOT, 0o755, &[lost_and_found]),
            (Ino::LOST_AND_FOUND, 0o700, &[]),
        ];
        for (ino, mode, entries) in directories {
            let rules = self.image.constants.rules;
            let mut dir = Dir::build(Ino::ROOT, entries, &rules).map_err(at_root)?;
            self.place_directory(ino, &mut dir, &vec![0])?;
            *self.inode_mut(ino) = Inode {
                body: Body::Directory(Arc::new(dir)),
                ..self.initial(FileType::Directory, mode)?
            };
        }
        Ok(())
    }

    fn initial(&self, file_type: FileType, mode: u16) -> Result<Inode, Error> {
        let created = self.image.constants.params.created;
        let meta = Meta {
            mode,
            atime: created,
            mtime: created,
            ctime: created,
            ..Meta::default()
        };
        new_inode(file_type, &meta).map_err(at_root)
    }
}

fn at_root(source: Problem) -> Error {
    Error::Entry {
        path: "/".to_owned(),
        source,
    }
}
