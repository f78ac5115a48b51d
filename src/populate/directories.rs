//! The layer's directories. Before the files are made, they are made, or cleared of what does not stay. They get their
//! attributes once nothing in them changes any more.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use rayon::Scope;
use xattr::FileExt;

use super::attributes::{self, Start};
use super::error::{Error, Failure, failed};
use super::outline::{Outline, cut};
use super::remove::{empty, remove};
use super::workers::Workers;
use crate::source::Layer;
use crate::tree::{self, Kind, LayerTree, NodeId, Xattrs, escape};

const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
/// The label that a kernel with `SELinux` gives to every file; nobody can remove it.
const LABEL: &[u8] = b"security.selinux";
/// The minimum number of directories for a subtree to be a task of its own.
const LARGE: usize = 256;

/// The directory was made in this run.
const FRESH: u8 = 1;
/// Nothing of the layers below is in the directory.
const BARE: u8 = 2;
/// What is made in the directory gets this process's group.
const OUR_GROUP: u8 = 4;

/// The layer's directories, each before those below it.
#[derive(Debug)]
pub(super) struct Directories(Vec<Directory>);

#[derive(Debug)]
struct Directory {
    node: NodeId,
    depth: usize,
    /// The index after the last directory below it.
    end: usize,
    state: AtomicU8,
}

impl Directories {
    pub(super) fn new(layer: &Layer) -> Result<Self, Error> {
        let (mut list, mut pending) = (Vec::new(), vec![(LayerTree::ROOT, 0)]);
        while let Some((node, depth)) = pending.pop() {
            let listing = layer
                .tree
                .directory(node)
                .expect("only directories are listed");
            let first = pending.len();
            for entry in listing.entries() {
                if !matches!(layer.tree.node(entry.node).kind, Kind::Directory(_)) {
                    continue;
                }
                // A directory with two names would be listed twice, and without end if one of them were below the
                // other.
                if layer.tree.first_name(entry.node) != Some((node, entry.name)) {
                    return Err(Error::LinkedDirectory {
                        layer: layer.id.clone(),
                        path: layer.tree.display_path(entry.node),
                    });
                }
                pending.push((entry.node, depth + 1));
            }
            // The stack gives back the last one first. Reversed, the list comes out in the order of the tree, and each
            // subtree is one stretch of it, which is what `end` rests on.
            pending[first..].reverse();
            list.push(Directory {
                node,
                depth,
                end: 0,
                state: AtomicU8::new(0),
            });
        }
        // `ends` has the way to the directory at hand, by depth: those whose end is not known yet. A directory of some
        // depth ends all that are as deep or deeper. Each is pushed and drained once, so this is linear, where looking
        // for the end of each one would cost the square of the depth in a tree that is one long chain. The round past
        // the last directory counts as depth 0 and ends all that are left.
        let mut ends: Vec<usize> = Vec::new();
        for at in 0..=list.len() {
            let depth = list.get(at).map_or(0, |directory| directory.depth);
            for place in ends.drain(depth.min(ends.len())..) {
                list[place].end = at;
            }
            ends.push(at);
        }
        Ok(Self(list))
    }

    pub(super) fn nr(&self) -> usize {
        self.0.len()
    }

    pub(super) fn node(&self, place: usize) -> NodeId {
        self.0[place].node
    }

    /// The layer's entries in a directory.
    pub(super) fn listing<'t>(&self, tree: &'t LayerTree, place: usize) -> &'t tree::Directory {
        tree.directory(self.node(place))
            .expect("the list is of directories")
    }

    /// The depth of a directory; 0 for the root.
    pub(super) fn depth(&self, place: usize) -> usize {
        self.0[place].depth
    }

    /// Whether nothing of the layers below is in it.
    pub(super) fn is_bare(&self, place: usize) -> bool {
        self.state(place) & BARE != 0
    }

    /// How to make the layer's entries in this directory.
    pub(super) fn start(&self, crew: &Workers<'_>, place: usize, node: NodeId) -> Start {
        let meta = &crew.layer.tree.node(node).meta;
        crew.process.start(meta, self.state(place) & OUR_GROUP != 0)
    }

    // The steps and tasks themselves order what is stored here.
    fn state(&self, place: usize) -> u8 {
        self.0[place].state.load(Ordering::Relaxed)
    }

    fn set_state(&self, place: usize, state: u8) {
        self.0[place].state.store(state, Ordering::Relaxed);
    }

    /// The directories in a directory.
    fn below(&self, place: usize) -> impl Iterator<Item = usize> {
        let end = self.0[place].end;
        // In a list in this order the first child follows its parent, and each next one begins where the one before
        // ends.
        let within = move |at: usize| (at < end).then_some(at);
        std::iter::successors(within(place + 1), move |&at| within(self.0[at].end))
    }

    /// Makes all directories, and removes what the layer removes.
    pub(super) fn make<'s>(&'s self, crew: &'s Workers<'_>) -> Result<(), Error> {
        crew.step(|scope| {
            scope.spawn(move |scope| crew.attempt(|| self.make_tree(crew, scope, 0)));
        })
    }

    /// Makes everything below an existing directory. Of several large subtrees, all but one are left to other threads,
    /// if the path to them is short enough for that.
    fn make_tree<'s>(
        &'s self,
        crew: &'s Workers<'_>,
        scope: &Scope<'s>,
        top: usize,
    ) -> Result<(), Error> {
        let mut cursor = crew.cursor();
        let mut pending = vec![top];
        while let Some(place) = pending.pop() {
            crew.go_on()?;
            let node = self.node(place);
            let directory = cursor
                .enter(node)
                .map_err(|errno| failed("open")(errno).of(crew.layer, node))?;
            // Before anything below it, in this thread or another: the state of a child, and whether it is there at
            // all, is known only after this.
            self.visit(crew, place, directory)?;
            let (first, mut has_large) = (pending.len(), false);
            for child in self.below(place) {
                let nr = self.0[child].end - child;
                // A task opens the way to its directory anew, from the root. So a subtree must have at least as many
                // directories as that way, or in a deep tree the ways would cost more than the work.
                let is_large = nr >= LARGE.max(self.0[child].depth);
                // The first large one stays here, where the way to it is open already. A new directory with none below
                // it needs no visit: nothing is made in it yet, and there is nothing to clear.
                if is_large && has_large {
                    scope.spawn(move |scope| {
                        crew.attempt(|| self.make_tree(crew, scope, child));
                    });
                } else if nr > 1 || self.state(child) & FRESH == 0 {
                    has_large |= is_large;
                    pending.push(child);
                }
            }
            pending[first..].reverse();
        }
        Ok(())
    }

    fn visit(&self, crew: &Workers<'_>, place: usize, directory: &File) -> Result<(), Error> {
        // First, since what is made next would inherit the default ACL and the group, and an opaque directory is
        // emptied whole.
        if self.state(place) & FRESH == 0 {
            self.clear(crew, place, directory)?;
        }
        for child in self.below(place) {
            let node = self.node(child);
            let is_fresh = self
                .make_one(crew, (place, directory), child)
                .map_err(|failure| failure.of(crew.layer, node))?;
            // A new directory got its group like all that is made in its parent, so the flag holds in it too. Of one
            // from below nothing is known before its own visit.
            let state = if is_fresh {
                FRESH | BARE | self.state(place) & OUR_GROUP
            } else {
                0
            };
            self.set_state(child, state);
        }
        Ok(())
    }

    /// Removes from a directory of the layers below what would be passed on to new files, and what the layer removes.
    fn clear(&self, crew: &Workers<'_>, place: usize, directory: &File) -> Result<(), Error> {
        let node = self.node(place);
        let here = |failure: Failure| failure.of(crew.layer, node);
        let stat = fstat(directory).map_err(|errno| here(failed("stat")(errno)))?;
        let mode = Mode::from_bits_truncate(stat.st_mode);
        // Else new files would get the directory's group and new directories the bit. The mode is set again at the end.
        if mode.contains(Mode::S_ISGID) {
            fchmod(directory, mode - Mode::S_ISGID)
                .map_err(|errno| here(failed("set the mode")(errno)))?;
        }
        clear_xattrs(directory, &crew.layer.tree.node(node).meta.xattrs).map_err(here)?;
        let mut state = 0;
        // Some mounts (`grpid`) give a new file the directory's group, others that of the process. If the two are the
        // same, it does not matter which.
        if stat.st_gid == crew.process.gid {
            state |= OUR_GROUP;
        }
        let listing = self.listing(&crew.layer.tree, place);
        if listing.is_opaque() {
            empty(crew, directory).map_err(here)?;
            state |= BARE;
        } else {
            for name in listing.removed() {
                remove(crew, directory, name)
                    .map_err(|failure| failure.beneath(crew.layer, node, name))?;
            }
        }
        self.set_state(place, state);
        Ok(())
    }

    /// Makes a directory, unless it exists. Returns whether it is new.
    fn make_one(
        &self,
        crew: &Workers<'_>,
        (parent, directory): (usize, &File),
        place: usize,
    ) -> Result<bool, Failure> {
        let node = self.node(place);
        let (_, name) = crew
            .layer
            .tree
            .first_name(node)
            .expect("it is not the root");
        let mode = self.start(crew, parent, node).mode;
        // One call both makes it and tells whether something is there. In a bare directory nothing can be in the way,
        // so what is there all the same is an error.
        match mkdirat(directory, name, mode) {
            Err(Errno::EEXIST) if !self.is_bare(parent) => {}
            made => return made.map(|()| true).map_err(failed("create")),
        }
        let stat = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        let stat = stat.map_err(failed("stat"))?;
        // Two directories merge. Anything else of the layers below is hidden by this one.
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR {
            return Ok(false);
        }
        remove(crew, directory, name)?;
        mkdirat(directory, name, mode).map_err(failed("create"))?;
        Ok(true)
    }

    /// Sets the attributes of those directories that were not complete when their files were made.
    pub(super) fn finish<'s>(
        &'s self,
        crew: &'s Workers<'_>,
        outline: &'s Outline,
    ) -> Result<(), Error> {
        let units = cut(&outline.late, |&place| (self.depth(place), 0));
        crew.step(|scope| {
            for unit in units {
                scope.spawn(move |_| crew.attempt(|| self.finish_some(crew, unit)));
            }
        })
    }

    fn finish_some(&self, crew: &Workers<'_>, places: &[usize]) -> Result<(), Error> {
        let mut cursor = crew.cursor();
        for &place in places {
            crew.go_on()?;
            let node = self.node(place);
            cursor
                .enter(node)
                .map_err(failed("open"))
                .and_then(|directory| self.set_attributes(crew, place, directory))
                .map_err(|failure| failure.of(crew.layer, node))?;
        }
        Ok(())
    }

    /// Sets a directory's attributes. Nothing may change in it afterwards.
    pub(super) fn set_attributes(
        &self,
        crew: &Workers<'_>,
        place: usize,
        directory: &File,
    ) -> Result<(), Failure> {
        let node = self.node(place);
        // A directory from below was made with the attributes of another layer. A new one has its parent's group flag,
        // so its own place gives what `make_one` started with.
        let start = if self.state(place) & FRESH == 0 {
            Start::WRONG
        } else {
            self.start(crew, place, node)
        };
        attributes::set(crew, directory, &crew.layer.tree.node(node).meta, start)
    }
}

/// Removes the extended attributes that the layer does not have, and those that new files inherit.
///
/// To root, XFS also shows each ACL under a second name. Both may be removed: whatever the layer has is set again
/// later.
fn clear_xattrs(directory: &File, layers: &Xattrs) -> Result<(), Failure> {
    let names = directory
        .list_xattr()
        .map_err(|source| Failure::Call("list the extended attributes".into(), source))?;
    for name in names {
        let bytes = name.as_bytes();
        let stays = layers.iter().any(|(layers, _)| layers == bytes);
        if stays && bytes != DEFAULT_ACL {
            continue;
        }
        match directory.remove_xattr(&name) {
            Err(source) if !is_gone(&name, &source) => {
                let op = format!("remove the extended attribute {}", escape(bytes));
                return Err(Failure::Call(op.into(), source));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether the attribute is gone, or can never be removed.
fn is_gone(name: &OsStr, error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    errno == Some(Errno::ENODATA)
        || name.as_bytes() == LABEL && matches!(errno, Some(Errno::EACCES | Errno::EPERM))
}
