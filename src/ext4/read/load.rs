//! Taking an inode into a view, with its blocks, names and attributes, and out of it again.

use std::sync::Arc;

use super::dir::Directory;
use super::error::Error;
use super::extents::Mapping;
use super::fault::{DirectoryFault, Fault, InodeFault, XattrFault};
use super::inode::{Inode, InodeFields, Type};
use super::owner::{Owner, Part};
use super::view::{Link, NameTarget, Unit, XattrBlockUse};
use super::work::Work;
use super::{check_inode, extents, resize, xattr};
use crate::ext4::ino::Ino;
use crate::tree::Xattrs;

impl Work<'_> {
    /// Takes in an inode; `old` is what was there before and was [removed](Self::remove).
    pub(super) fn add(
        &mut self,
        ino: Ino,
        own: InodeFields,
        found: Vec<InodeFault>,
        old: Option<&Inode>,
    ) -> Result<(), Error> {
        let mut faults = found;
        let mapping = if ino == resize::INO {
            resize::read(self, &own, &mut faults)?
        } else {
            extents::read(self, ino, &own, &mut faults)?
        };
        let target = self.target(&own, &mapping, &mut faults)?;
        let xattrs = self.share(ino, &own, &mut faults)?;
        check_inode::check(&self.geometry, (ino, &own), &mapping, &mut faults);
        let mut all: Vec<_> = faults
            .into_iter()
            .map(|fault| Fault::Inode { ino, fault })
            .collect();
        let mut directory = None;
        if own.file_type() == Some(Type::Directory) {
            let old = old.and_then(|old| old.directory.as_deref());
            let read = Directory::read(self, (ino, &own, &mapping), old, &mut all)?;
            self.count_directory(ino, true);
            directory = Some(Arc::new(read));
        }
        self.set_faults(Unit::Inode(ino), all);
        self.exchange_names(
            ino,
            old.and_then(|old| old.directory.as_deref()),
            directory.as_deref(),
        );
        self.mark_inode(ino, true);
        let inode = Inode {
            own,
            xattrs,
            target,
            mapping,
            directory,
        };
        self.view.inodes.insert(ino, Arc::new(inode));
        Ok(())
    }

    /// Takes an inode's blocks and attributes out; its names stay until they are exchanged.
    pub(super) fn remove(&mut self, ino: Ino, old: &Inode) {
        for run in &old.mapping.runs {
            self.release(run.physical, run.blocks.into());
        }
        for &node in &old.mapping.nodes {
            self.release(node, 1);
        }
        if old.directory.is_some() {
            self.count_directory(ino, false);
        }
        self.unshare(ino, old.own.acl_block);
        self.mark_inode(ino, false);
        self.set_faults(Unit::Inode(ino), Vec::new());
        self.view.inodes.remove(&ino);
    }

    fn mark_inode(&mut self, ino: Ino, is_used: bool) {
        self.touch(ino);
        let (group, index) = self.geometry.inode_place(ino);
        self.groups.insert(group);
        // Reserved ones are always taken.
        if ino < self.geometry.first_ino {
            return;
        }
        let bits = &mut self.view.groups[group as usize].inodes;
        if is_used {
            bits.set(index..index + 1);
        } else {
            bits.clear(index..index + 1);
        }
    }

    fn count_directory(&mut self, ino: Ino, is_new: bool) {
        let (group, _) = self.geometry.inode_place(ino);
        let dirs = &mut self.view.groups[group as usize].dirs;
        if is_new {
            *dirs += 1;
        } else {
            *dirs -= 1;
        }
    }

    /// A symbolic link's target.
    fn target(
        &self,
        own: &InodeFields,
        mapping: &Mapping,
        faults: &mut Vec<InodeFault>,
    ) -> Result<Option<Box<[u8]>>, Error> {
        if own.file_type() != Some(Type::Symlink) {
            return Ok(None);
        }
        let target = match &*mapping.runs {
            _ if own.is_fast_symlink() => ended(&own.i_block, own.size),
            [run]
                if run.logical == 0
                    && run.blocks == 1
                    && mapping.nodes.is_empty()
                    && !run.unwritten =>
            {
                ended(&self.read_block(run.physical)?, own.size)
            }
            _ => None,
        };
        if target.is_none() {
            faults.push(InodeFault::Symlink(own.size));
        }
        Ok(target)
    }

    /// All attributes, those of its block included.
    fn share(
        &mut self,
        ino: Ino,
        own: &InodeFields,
        faults: &mut Vec<InodeFault>,
    ) -> Result<Xattrs, Error> {
        let block = own.acl_block;
        if block == 0 {
            return Ok(own.xattrs.clone());
        }
        if !self.geometry.is_block(block) || !self.geometry.features.ext_attr() {
            faults.push(InodeFault::Xattrs(XattrFault::Range));
            return Ok(own.xattrs.clone());
        }
        let known = self.view.xattrs.get(&block).cloned();
        let shared = match known {
            Some(shared) => XattrBlockUse {
                users: shared.users + 1,
                ..shared
            },
            None if !self.claim(block, 1, Owner::new(ino, Part::Xattrs)) => {
                faults.push(InodeFault::Xattrs(XattrFault::Claimed));
                return Ok(own.xattrs.clone());
            }
            None => self.read_shared(block)?,
        };
        let theirs = shared.block.xattrs.clone();
        self.view.xattrs.insert(block, shared);
        self.view.sharers.insert((block, ino));
        self.shared.insert(block);
        if own.xattrs.is_empty() {
            return Ok(theirs);
        }
        let pairs = [&theirs, &own.xattrs].map(Xattrs::clone);
        Ok(pairs
            .iter()
            .flat_map(Xattrs::iter)
            .map(|(name, value)| (name.into(), value.into()))
            .collect())
    }

    /// An attribute block with one user.
    pub(super) fn read_shared(&self, block: u64) -> Result<XattrBlockUse, Error> {
        let (read, faults) = xattr::parse_block(block, &self.read_block(block)?, &self.geometry);
        Ok(XattrBlockUse {
            block: Arc::new(read.unwrap_or_default()),
            faults: faults.into(),
            users: 1,
        })
    }

    fn unshare(&mut self, ino: Ino, block: u64) {
        if self.view.sharers.remove(&(block, ino)).is_none() {
            return;
        }
        self.shared.insert(block);
        let Some(shared) = self.view.xattrs.get_mut(&block) else {
            return;
        };
        shared.users -= 1;
        if shared.users == 0 {
            self.view.xattrs.remove(&block);
            self.release(block, 1);
        }
    }

    /// Replaces a directory's names; what is in both stays as it is.
    pub(super) fn exchange_names(
        &mut self,
        ino: Ino,
        old: Option<&Directory>,
        new: Option<&Directory>,
    ) {
        if old.is_none() && new.is_none() {
            return;
        }
        let empty = Directory::default();
        let (old, new) = (old.unwrap_or(&empty), new.unwrap_or(&empty));
        let gather = |these: &Directory, others: &Directory| {
            let blocks = these.blocks_beyond(Some(others));
            let mut names: Vec<_> = blocks
                .flat_map(|block| block.names.iter().cloned())
                .collect();
            names.sort_unstable();
            names
        };
        let (gone, come) = (gather(old, new), gather(new, old));
        for name in gone.iter().filter(|name| come.binary_search(name).is_err()) {
            self.view.names.remove(&name.key);
            self.count_link(ino, (name.ino, name.file_type), false);
        }
        for (at, name) in come.iter().enumerate() {
            // When several blocks are read again, a name may come from two of them. Only one of these was there before.
            let is_second = at > 0 && come[at - 1] == *name;
            if !is_second && gone.binary_search(name).is_ok() {
                continue;
            }
            let named = NameTarget {
                ino: name.ino,
                file_type: name.file_type,
            };
            if self
                .view
                .names
                .insert(Arc::clone(&name.key), named)
                .is_some()
            {
                self.view.is_tangled = true;
                let fault = DirectoryFault::Twice(name.name().into());
                self.add_fault(
                    Unit::Inode(ino),
                    Fault::Directory {
                        ino,
                        block: 0,
                        fault,
                    },
                );
            }
            self.count_link(ino, (name.ino, name.file_type), true);
        }
    }

    fn count_link(&mut self, directory: Ino, (ino, file_type): (Ino, u8), is_new: bool) {
        let link = Link {
            ino,
            directory,
            file_type,
        };
        self.touch(ino);
        self.touch(directory);
        let count = self.view.links.get(&link).copied().unwrap_or(0);
        match (is_new, count) {
            (true, count) => drop(self.view.links.insert(link, count + 1)),
            (false, 0 | 1) => drop(self.view.links.remove(&link)),
            (false, count) => drop(self.view.links.insert(link, count - 1)),
        }
    }
}

/// The text that `bytes` start with, if it is `size` bytes long and ended by a zero.
fn ended(bytes: &[u8], size: u64) -> Option<Box<[u8]>> {
    let length = bytes.iter().position(|&byte| byte == 0)?;
    (length as u64 == size && length > 0).then(|| bytes[..length].into())
}
