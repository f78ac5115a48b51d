//! Moves from directory to directory in a tree on disk that has the names of a [`LayerTree`]: the branch it was read
//! from, or the file system it is written to.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::tree::{LayerTree, NodeId};

/// The number of directories that stay open on the path to the current one: most moves are from one directory to the
/// next.
const KEPT: usize = 4;

/// An open directory of a tree on disk, and the path to it.
///
/// The path is followed one component at a time, and no symbolic link in it is followed. However deep the tree, only
/// the last few directories are open; above them, `..` leads back.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    tree: &'a LayerTree,
    root: Arc<File>,
    flags: OFlag,
    /// The directories from below the root to the current one.
    path: Vec<NodeId>,
    /// The last few of them.
    open: VecDeque<File>,
}

impl<'a> Cursor<'a> {
    /// Starts in the directory `root`, which is the root of `tree` on disk. The others are opened with `access`
    /// (`O_PATH`, `O_RDONLY`).
    pub(crate) fn new(tree: &'a LayerTree, root: Arc<File>, access: OFlag) -> Self {
        Self {
            tree,
            root,
            flags: access | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            path: Vec::new(),
            open: VecDeque::new(),
        }
    }

    /// Moves to a directory of the tree.
    ///
    /// After an error the cursor is somewhere on the path and can still be used.
    pub(crate) fn enter(&mut self, directory: NodeId) -> Result<&File, Errno> {
        let (mut below, mut at) = (Vec::new(), directory);
        let kept = loop {
            let Some((parent, name)) = self.tree.first_name(at) else {
                break 0;
            };
            if let Some(place) = self.path.iter().rposition(|&node| node == at) {
                break place + 1;
            }
            below.push((at, name));
            at = parent;
        };
        self.leave(kept)?;
        for (node, name) in below.into_iter().rev() {
            let opened = openat(self.current(), name, self.flags, Mode::empty())?;
            self.path.push(node);
            self.open.push_back(opened.into());
            if self.open.len() > KEPT {
                self.open.pop_front();
            }
        }
        Ok(self.current())
    }

    fn current(&self) -> &File {
        self.open.back().unwrap_or(&self.root)
    }

    /// Moves up until `kept` directories of the path are left.
    fn leave(&mut self, kept: usize) -> Result<(), Errno> {
        if kept == 0 {
            self.path.clear();
            self.open.clear();
        }
        while self.path.len() > kept {
            if self.open.len() == 1 {
                let parent = openat(self.current(), "..", self.flags, Mode::empty())?;
                self.open.push_front(parent.into());
            }
            self.open.pop_back();
            self.path.pop();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::tree::{Kind, Listing, Meta};

    /// `a/a/…` and `b/b/…` below a root, `depth` levels each, in the tree and on disk.
    fn combs(root: &Path, depth: usize) -> (LayerTree, Vec<(NodeId, PathBuf)>) {
        let mut tree = LayerTree::new(Meta::default());
        let mut all = vec![(LayerTree::ROOT, root.to_owned())];
        let mut entries = Vec::new();
        for name in ["a", "b"] {
            let mut path = root.to_owned();
            let nodes: Vec<_> = (0..depth)
                .map(|_| tree.add(Meta::default(), Kind::Directory(Box::default())))
                .collect();
            for &node in &nodes {
                path.push(name);
                all.push((node, path.clone()));
            }
            fs::create_dir_all(path).unwrap();
            for pair in nodes.windows(2) {
                let entries = vec![(name.as_bytes().into(), pair[1])];
                let listing = Listing {
                    entries,
                    ..Listing::default()
                };
                tree.set_directory(pair[0], listing);
            }
            entries.push((name.as_bytes().into(), nodes[0]));
        }
        let listing = Listing {
            entries,
            ..Listing::default()
        };
        tree.set_directory(LayerTree::ROOT, listing);
        (tree, all)
    }

    #[test]
    fn every_way_leads_to_the_directory_and_few_stay_open() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, all) = combs(dir.path(), 3 * KEPT);
        let root = Arc::new(File::open(dir.path()).unwrap());
        let mut cursor = Cursor::new(&tree, root, OFlag::O_PATH);
        for step in 1..all.len() {
            for at in (0..all.len()).map(|at| at * step % all.len()) {
                let (node, path) = &all[at];
                let found = cursor.enter(*node).unwrap().metadata().unwrap();
                assert_eq!(found.ino(), path.metadata().unwrap().ino(), "{step} {at}");
                assert!(cursor.open.len() <= KEPT);
            }
        }
    }

    #[test]
    fn a_symbolic_link_is_not_followed_and_the_cursor_stays_usable() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, all) = combs(dir.path(), 3);
        let (deep, path) = &all[3];
        fs::rename(path, dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), path).unwrap();
        let root = Arc::new(File::open(dir.path()).unwrap());
        let mut cursor = Cursor::new(&tree, root, OFlag::O_RDONLY);
        assert_eq!(cursor.enter(*deep).unwrap_err(), Errno::ENOTDIR);
        for (node, path) in all[..3].iter().chain(&all[4..]) {
            let found = cursor.enter(*node).unwrap().metadata().unwrap();
            assert_eq!(found.ino(), path.metadata().unwrap().ino());
        }
    }
}
