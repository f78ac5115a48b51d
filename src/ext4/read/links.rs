//! Names and the inodes they lead to: types, numbers of links, every directory in its place below the root.

use std::collections::HashSet;
use std::sync::Arc;

use super::fault::{Fault, InodeFault};
use super::inode::{FLAG_INDEX, Inode, Type};
use super::view::{Link, Unit, View};
use super::work::Work;
use crate::ext4::ino::Ino;

/// Most links that are counted (`EXT4_LINK_MAX`).
const MAX_LINKS: u64 = 65_000;

/// Directories of which it is known whether `..` after `..` leads to the root.
#[derive(Default)]
struct Ways {
    right: HashSet<Ino>,
    looped: HashSet<Ino>,
}

/// An inode and the names that lead to it.
struct LinkedInode<'a> {
    inode: &'a Inode,
    is_root: bool,
    links: &'a [(Link, u32)],
    /// Their number.
    names: u64,
}

impl Work<'_> {
    /// Judges the names of all inodes, or of those noted.
    pub(super) fn judge_names(&mut self) {
        let mut inodes = std::mem::take(&mut self.linked);
        if self.is_whole() {
            inodes.extend(self.view.inodes.keys());
            inodes.extend(self.view.links.keys().map(|link| link.ino));
        }
        let mut ways = Ways::default();
        for ino in inodes {
            let links: Vec<_> = self
                .view
                .links_of(ino)
                .map(|(&link, &names)| (link, names))
                .collect();
            let faults = self.judge_links(ino, &links, &mut ways);
            let faults = faults.into_iter().map(|fault| Fault::Inode { ino, fault });
            self.set_faults(Unit::Links(ino), faults.collect());
        }
    }

    fn judge_links(&mut self, ino: Ino, links: &[(Link, u32)], ways: &mut Ways) -> Vec<InodeFault> {
        let mut faults = Vec::new();
        let Some(inode) = self.view.inodes.get(&ino).map(Arc::clone) else {
            faults.extend(
                links
                    .first()
                    .map(|(link, _)| InodeFault::Free(link.directory)),
            );
            return faults;
        };
        let is_special = ino < self.geometry.first_ino && ino != Ino::ROOT;
        if is_special || Some(ino) == self.geometry.orphan_file {
            return faults;
        }
        let named = LinkedInode {
            inode: &inode,
            is_root: ino == Ino::ROOT,
            links,
            names: links.iter().map(|(_, names)| u64::from(*names)).sum(),
        };
        named.check_types(&mut faults);
        named.check_count(self.geometry.features.dir_nlink(), &mut faults);
        if inode.directory.is_some() {
            named.check_place(&mut faults);
            if !ways.lead_to_root(&self.view, ino) {
                // Which directories are part of the loop is not for one of them to say.
                self.view.is_tangled = true;
                faults.push(InodeFault::Loop);
            }
        }
        faults
    }
}

impl LinkedInode<'_> {
    fn check_types(&self, faults: &mut Vec<InodeFault>) {
        let Some(expected) = self.inode.file_type().map(Type::byte) else {
            return;
        };
        let wrong = self
            .links
            .iter()
            .filter(|(link, _)| link.file_type != expected);
        faults.extend(wrong.map(|(link, _)| InodeFault::Type {
            directory: link.directory,
            found: link.file_type,
            expected,
        }));
    }

    fn check_count(&self, dir_nlink: bool, faults: &mut Vec<InodeFault>) {
        if self.names == 0 && !self.is_root {
            faults.push(InodeFault::Unconnected);
            return;
        }
        let found = u64::from(self.inode.own.links);
        let expected = match &self.inode.directory {
            None => self.names,
            Some(directory) => match u64::from(directory.subdirectories) + 2 {
                links if links > MAX_LINKS && dir_nlink => 1,
                // A directory that once had more than can be counted keeps saying so.
                _ if found == 1 && self.inode.own.has(FLAG_INDEX) => 1,
                links => links,
            },
        };
        if found != expected {
            faults.push(InodeFault::Count {
                field: "i_links_count",
                found,
                expected,
            });
        }
    }

    /// A directory has one name, in the directory that its `..` leads to; the root is its own.
    fn check_place(&self, faults: &mut Vec<InodeFault>) {
        if self.names > 1 {
            faults.push(InodeFault::Names(self.names));
        }
        let expected = match self.links.first() {
            _ if self.is_root => Ino::ROOT,
            Some((link, _)) => link.directory,
            None => return,
        };
        let found = self
            .inode
            .directory
            .as_ref()
            .and_then(|directory| directory.parent);
        if let Some(found) = found.filter(|found| *found != expected) {
            faults.push(InodeFault::Parent { found, expected });
        }
    }
}

impl Ways {
    fn lead_to_root(&mut self, view: &View, ino: Ino) -> bool {
        let mut way = HashSet::new();
        let mut at = ino;
        while at != Ino::ROOT && !self.right.contains(&at) {
            if self.looped.contains(&at) || !way.insert(at) {
                self.looped.extend(way);
                return false;
            }
            let directory = view.inode(at).and_then(|inode| inode.directory.as_ref());
            // What is no directory, or has no `..`, is told elsewhere.
            let Some(parent) = directory.and_then(|directory| directory.parent) else {
                break;
            };
            at = parent;
        }
        self.right.extend(way);
        true
    }
}
