//! A layer merged into the tree below it, directory by directory.

use std::sync::Arc;

use super::data::{File, ranges};
use super::state::{Draft, check_name, new_inode};
use crate::ext4::ino::Ino;
use crate::ext4::write::dir::{ChangedBlocks, Dir};
use crate::ext4::write::dirent::{Entry, FileType};
use crate::ext4::write::error::{Error, Problem};
use crate::ext4::write::extents::Blocks;
use crate::ext4::write::image::Owner;
use crate::ext4::write::inode::{Body, FAST_SYMLINK, InBlock, Inode, MAX_LINKS, device};
use crate::ext4::write::xattr::Set;
use crate::tree::{self, Directory, Kind, LayerTree, NodeId};

/// Longest symbolic link.
const MAX_TARGET: usize = 4095;

/// Applies a layer onto the directory `at` of the root.
pub(super) fn merge(draft: &mut Draft, at: &[u8], layer: &LayerTree) -> Result<(), Error> {
    let mut merge = Merge {
        draft,
        layer,
        inos: vec![None; layer.nr_nodes()],
        files: Vec::new(),
        pending: Vec::new(),
    };
    merge.enter_root(at)?;
    while let Some(visit) = merge.pending.pop() {
        merge.visit(visit)?;
    }
    // Data comes last. Only now is its size known, and metadata that opened clusters in between would break it into
    // pieces.
    merge.place_files()
}

struct Merge<'a> {
    draft: &'a mut Draft,
    layer: &'a LayerTree,
    /// The inode that each node of the layer became.
    inos: Vec<Option<Ino>>,
    /// Files in the order in which they get their blocks.
    files: Vec<File>,
    /// Directories still to be merged, the next one last.
    pending: Vec<Visit>,
}

/// A directory of the layer and what it becomes.
#[derive(Clone, Copy)]
struct Visit {
    node: NodeId,
    ino: Ino,
    parent: Ino,
    is_new: bool,
}

impl<'a> Merge<'a> {
    fn enter_root(&mut self, at: &[u8]) -> Result<(), Error> {
        check_name(at).map_err(|problem| self.entry_error(LayerTree::ROOT, problem))?;
        // The root gains a name like any directory, but keeps its attributes: they belong to the file system, not to
        // the layer. If the name is already a directory, the layer is merged into it and the root does not change.
        let mut root = self.draft.root();
        let mut touched = ChangedBlocks::new();
        self.place_entry((Ino::ROOT, &mut root), (at, LayerTree::ROOT), &mut touched)?;
        if touched.is_empty() {
            return Ok(());
        }
        self.draft.put_root(root, &touched)
    }

    /// Merges one directory; those below it that the layer has are put on the list.
    fn visit(&mut self, visit: Visit) -> Result<(), Error> {
        let listing = self.listing(visit.node);
        let first_below = self.pending.len();
        // A new directory has a number but no inode yet; the table may not even reach that far.
        let below = if visit.is_new {
            None
        } else {
            self.draft.inode(visit.ino).directory().cloned()
        };
        let (mut dir, touched) = match below {
            Some(below) if !listing.is_opaque() => self.change(visit, listing, &below)?,
            below => self.fill(visit, listing, below)?,
        };
        // Reversed so that the first one is popped next: blocks and files are laid out in tree order.
        self.pending[first_below..].reverse();
        // In this order, because the inode records where the directory's blocks lie.
        self.draft.place_directory(visit.ino, &mut dir, &touched)?;
        self.put_directory(visit, dir, !touched.is_empty())
    }

    fn listing(&self, node: NodeId) -> &'a Directory {
        self.layer
            .directory(node)
            .expect("only directories are visited")
    }

    /// A directory that shows nothing of those below.
    fn fill(
        &mut self,
        visit: Visit,
        listing: &Directory,
        below: Option<Arc<Dir>>,
    ) -> Result<(Dir, ChangedBlocks), Error> {
        let mut entries = Vec::with_capacity(listing.entries().len());
        for tree::Entry { name, node } in listing.entries() {
            entries.push(self.create(name, node, visit.ino)?);
        }
        let rules = self.draft.image.constants.rules;
        let mut dir = Dir::build(visit.parent, &entries, &rules)
            .map_err(|problem| self.entry_error(visit.node, problem))?;
        if let Some(below) = below {
            // Released only after the new entries got their inodes, so that none of them reuses an old number. A name
            // that the layer brings back is a new file, whatever it was below.
            for entry in below.entries() {
                self.draft.release(entry.ino);
            }
            // The directory keeps its number and its first blocks. The owner recorded for each of these, inode and
            // position, stays true; only their content is written anew. `truncate` drops all nodes of the extent tree,
            // since fewer runs may need fewer nodes, so those still needed are placed again.
            dir.blocks = below.blocks.clone();
            let dropped = dir.blocks.truncate(dir.nr_blocks());
            self.draft.free_metadata_runs(dropped);
            let mut kept = std::mem::take(&mut dir.blocks);
            self.draft.place_nodes(visit.ino, &mut kept)?;
            dir.blocks = kept;
        }
        // Rebuilt from scratch, the directory shares no block's content with the old one.
        let touched = (0..dir.nr_blocks()).collect();
        Ok((dir, touched))
    }

    /// A directory below, less what the layer removes, and with what it brings.
    fn change(
        &mut self,
        visit: Visit,
        listing: &Directory,
        below: &Arc<Dir>,
    ) -> Result<(Dir, ChangedBlocks), Error> {
        let rules = self.draft.image.constants.rules;
        let mut dir = Dir::clone(below);
        let mut touched = ChangedBlocks::new();
        // Removals come first: the room they leave may save the layer's own names a leaf split. A whiteout for a name
        // that does not exist is legal and means nothing.
        for name in listing.removed() {
            if let Some(ino) = dir.lookup(name, &rules).map(|entry| entry.ino) {
                dir.remove(name, &rules, &mut touched);
                self.draft.release(ino);
            }
        }
        for tree::Entry { name, node } in listing.entries() {
            self.place_entry((visit.ino, &mut dir), (name, node), &mut touched)?;
        }
        Ok((dir, touched))
    }

    /// Brings one entry of the layer into a directory that may have one of that name.
    fn place_entry(
        &mut self,
        (parent, dir): (Ino, &mut Dir),
        (name, node): (&[u8], NodeId),
        touched: &mut ChangedBlocks,
    ) -> Result<(), Error> {
        let rules = self.draft.image.constants.rules;
        let old = dir
            .lookup(name, &rules)
            .map(|old| (old.ino, old.is_directory()));
        let is_directory = self.layer.directory(node).is_some();
        match old {
            // Two directories become one. The entry stays, and with it the block that holds it.
            Some((ino, true)) if is_directory => self.meet(
                node,
                Visit {
                    node,
                    ino,
                    parent,
                    is_new: false,
                },
            ),
            Some((ino, _)) => {
                // The old inode keeps its number until the name leads elsewhere. The name has the same length and hash,
                // so the entry fits where it was and no leaf can split.
                let entry = self.create(name, node, parent)?;
                dir.replace(entry, &rules, touched);
                self.draft.release(ino);
                Ok(())
            }
            None => {
                let entry = self.create(name, node, parent)?;
                dir.insert(entry, &rules, touched)
                    .map_err(|problem| self.entry_error(node, problem))
            }
        }
    }

    /// The inode for a name that nothing below has: the node's, if it has one already.
    fn create<'n>(
        &mut self,
        name: &'n [u8],
        node: NodeId,
        parent: Ino,
    ) -> Result<Entry<'n>, Error> {
        check_name(name).map_err(|problem| self.entry_error(node, problem))?;
        let file_type = file_type(&self.layer.node(node).kind);
        let ino = match (self.inos[node.index()], file_type) {
            // A directory gets its number now, because its parent's entry needs it, and its content when it is visited.
            // Until then nothing looks at its inode, which still reads as free. `meet` refuses a second name of a
            // directory.
            (_, FileType::Directory) => {
                let ino = self.draft.take_inode(true)?;
                self.meet(
                    node,
                    Visit {
                        node,
                        ino,
                        parent,
                        is_new: true,
                    },
                )?;
                ino
            }
            // Several names of one node are hard links, wherever in the layer they are.
            (Some(ino), _) => self.link(node, ino)?,
            (None, _) => self.create_inode(node)?,
        };
        Ok(Entry {
            name,
            ino,
            file_type: file_type as u8,
        })
    }

    /// Notes a directory of the layer, which may have one name only.
    fn meet(&mut self, node: NodeId, visit: Visit) -> Result<(), Error> {
        if self.inos[node.index()].is_some() {
            return Err(self.entry_error(node, Problem::LinkedDirectory));
        }
        self.inos[node.index()] = Some(visit.ino);
        self.pending.push(visit);
        Ok(())
    }

    fn link(&mut self, node: NodeId, ino: Ino) -> Result<Ino, Error> {
        // The kernel's limit. `dir_nlink` lifts it for directories only, and files from XFS may exceed it.
        if self.draft.inode(ino).links >= MAX_LINKS {
            return Err(self.entry_error(node, Problem::Links));
        }
        self.draft.inode_mut(ino).links += 1;
        Ok(ino)
    }

    fn create_inode(&mut self, node: NodeId) -> Result<Ino, Error> {
        let mut inode = self.attributes(node)?;
        let ino = self.draft.take_inode(false)?;
        self.inos[node.index()] = Some(ino);
        match &self.layer.node(node).kind {
            Kind::Regular(file) => {
                // Checked here, where the entry at fault can be named; `place_files` relies on it. The blocks follow
                // once all files are known.
                self.checked(node, ranges(file))?;
                inode.size = file.size;
                inode.body = Body::File(Blocks::None);
                self.files.push(File { node, ino });
            }
            Kind::Symlink(target) => {
                inode.size = target.len() as u64;
                inode.body = self.symlink(node, ino, target)?;
            }
            &Kind::CharDevice(number) | &Kind::BlockDevice(number) => {
                inode.body = self.checked(node, device(number))?;
            }
            Kind::Fifo | Kind::Socket => inode.body = Body::Bare,
            Kind::Directory(_) => {}
        }
        *self.draft.inode_mut(ino) = inode;
        Ok(ino)
    }

    fn symlink(&mut self, node: NodeId, ino: Ino, target: &[u8]) -> Result<Body, Error> {
        self.checked(node, check_target(target))?;
        let bytes = target.len();
        // A target in the inode needs its NUL within the 60 bytes of `i_block`, so 59 bytes is the longest.
        let block = if bytes < FAST_SYMLINK {
            None
        } else {
            Some(self.draft.take_metadata(1)?.start)
        };
        if let Some(block) = block {
            self.draft.image.owners.insert(block, Owner::InBlock(ino));
        }
        let bytes = target.into();
        Ok(Body::Symlink(Arc::new(InBlock { bytes, block })))
    }

    /// Writes a merged directory's inode, unless it is as below.
    fn put_directory(&mut self, visit: Visit, dir: Dir, dir_changed: bool) -> Result<(), Error> {
        let node = self.layer.node(visit.node);
        let set = self.checked(visit.node, Set::new(&node.meta.xattrs))?;
        let mut inode = self.checked(visit.node, new_inode(FileType::Directory, &node.meta))?;
        if visit.is_new {
            inode.xattrs = self.draft.store(set)?;
        } else {
            let old = self.draft.inode(visit.ino).clone();
            // An equal set keeps its block, even if this layer has stored the same set elsewhere: a new block number
            // alone would make the inode differ from the one below.
            let old_set = old.xattrs.as_ref().map(|stored| &stored.set);
            if old_set == set.as_ref() {
                inode.xattrs.clone_from(&old.xattrs);
                // A layer lists every directory on the way to a change. Most of them are as below, and an inode written
                // for nothing can cost a whole cluster of the inode table.
                if !dir_changed && same_attributes(&old, &inode) {
                    return Ok(());
                }
            } else {
                // Other inodes may share that block, so it is released by count, not freed.
                if let Some(stored) = &old.xattrs {
                    self.draft.unshare(stored);
                }
                inode.xattrs = self.draft.store(set)?;
            }
        }
        inode.body = Body::Directory(Arc::new(dir));
        *self.draft.inode_mut(visit.ino) = inode;
        Ok(())
    }

    fn attributes(&mut self, node: NodeId) -> Result<Inode, Error> {
        let source = self.layer.node(node);
        let set = self.checked(node, Set::new(&source.meta.xattrs))?;
        let inode = new_inode(file_type(&source.kind), &source.meta);
        let mut inode = self.checked(node, inode)?;
        inode.xattrs = self.draft.store(set)?;
        Ok(inode)
    }

    fn place_files(self) -> Result<(), Error> {
        let layer = self.layer;
        self.draft
            .place_files(&self.files, |node| match &layer.node(node).kind {
                // `create_inode` has already refused files with invalid ranges.
                Kind::Regular(file) => ranges(file).unwrap_or_default(),
                _ => Vec::new(),
            })
    }

    fn checked<T>(&self, node: NodeId, result: Result<T, Problem>) -> Result<T, Error> {
        result.map_err(|problem| self.entry_error(node, problem))
    }

    fn entry_error(&self, node: NodeId, source: Problem) -> Error {
        Error::Entry {
            path: self.layer.display_path(node),
            source,
        }
    }
}

/// Whether a symbolic link can hold a target.
pub(super) fn check_target(target: &[u8]) -> Result<(), Problem> {
    let bytes = target.len();
    if bytes == 0 || bytes > MAX_TARGET || target.contains(&0) {
        return Err(Problem::Target { bytes });
    }
    Ok(())
}

fn file_type(kind: &Kind) -> FileType {
    match kind {
        Kind::Directory(_) => FileType::Directory,
        Kind::Regular(_) => FileType::Regular,
        Kind::Symlink(_) => FileType::Symlink,
        Kind::CharDevice(_) => FileType::CharDevice,
        Kind::BlockDevice(_) => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
    }
}

/// Whether two inodes agree in all but what they hold and the times that reading a root changes: if those decided what is
/// written, a plan made again after a look at the root could be another one, and nothing could be resumed.
fn same_attributes(a: &Inode, b: &Inode) -> bool {
    (a.mode, a.uid, a.gid) == (b.mode, b.uid, b.gid) && a.mtime == b.mtime && a.xattrs == b.xattrs
}
