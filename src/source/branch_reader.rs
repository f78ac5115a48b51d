//! Reads the files of a branch, and detects files that have changed since the plan was made.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

use super::cursor::Cursor;
use super::layer::Layer;
use crate::docker::CacheId;
use crate::sys::{CloneRange, clone_range, extents_of};
use crate::tree::{LayerTree, NodeId, Timestamp};

const BRANCH: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
// O_NONBLOCK: if a fifo has taken the file's place, opening it must not wait for a writer.
const FILE: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NONBLOCK);

/// Why a file of a branch cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("layer {layer}: {path}: cannot {op}")]
    Unreadable {
        /// The layer.
        layer: CacheId,
        /// The file within the branch, escaped.
        path: String,
        /// The operation that failed.
        op: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// It has changed since the plan was made.
    #[error(
        "layer {layer}: {path}: {what} changed after the layer was first read; is something still using the branch?"
    )]
    Changed {
        /// The layer.
        layer: CacheId,
        /// The file within the branch, escaped.
        path: String,
        /// What differs: `its size`, `its type`, …
        what: &'static str,
    },
}

/// Opens the regular files of one branch.
#[derive(Debug)]
pub(crate) struct BranchReader<'a> {
    layer: &'a Layer,
    branch: Cursor<'a>,
}

impl<'a> BranchReader<'a> {
    pub(crate) fn new(layer: &'a Layer) -> Result<Self, Error> {
        let root =
            open(&layer.branch, BRANCH, Mode::empty()).map_err(|errno| Error::Unreadable {
                layer: layer.id.clone(),
                path: "/".to_owned(),
                op: "open the branch directory",
                source: errno.into(),
            })?;
        let root = Arc::new(File::from(root));
        Ok(Self {
            layer,
            branch: Cursor::new(&layer.tree, root, OFlag::O_PATH),
        })
    }

    /// Opens a regular file and checks that it is as planned.
    pub(crate) fn open(&mut self, node: NodeId) -> Result<SourceFile<'a>, Error> {
        let source = self.open_unchecked(node)?;
        source.check()?;
        Ok(source)
    }

    /// Reads a whole regular file with as many bytes as `buffer` has. For this, one check after the bytes is enough.
    pub(crate) fn read_whole(&mut self, node: NodeId, buffer: &mut [u8]) -> Result<(), Error> {
        let source = self.open_unchecked(node)?;
        let read = source.read_at(buffer, 0);
        // For a file that became something else, the error of this check says more.
        source.check()?;
        read
    }

    fn open_unchecked(&mut self, node: NodeId) -> Result<SourceFile<'a>, Error> {
        let file = self
            .open_beneath(node)
            .map_err(|errno| self.error(node, "open", errno))?;
        Ok(SourceFile {
            layer: self.layer,
            node,
            file,
            planned: PlannedFile::new(&self.layer.tree, node),
        })
    }

    fn open_beneath(&mut self, node: NodeId) -> Result<File, Errno> {
        let Some((parent, name)) = self.layer.tree.first_name(node) else {
            return Err(Errno::EISDIR);
        };
        let directory = self.branch.enter(parent)?;
        // Reading must not change the original's access times; only the owner and root may request that.
        let opened = match openat(directory, name, FILE.union(OFlag::O_NOATIME), Mode::empty()) {
            Err(Errno::EPERM) => openat(directory, name, FILE, Mode::empty()),
            opened => opened,
        };
        opened.map(File::from)
    }

    fn error(&self, node: NodeId, op: &'static str, errno: Errno) -> Error {
        let path = self.layer.tree.display_path(node);
        let layer = self.layer.id.clone();
        match errno {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO => Error::Changed {
                layer,
                path,
                what: "its name",
            },
            _ => Error::Unreadable {
                layer,
                path,
                op,
                source: errno.into(),
            },
        }
    }
}

/// The planned state of a regular file.
#[derive(Clone, Copy, Debug)]
struct PlannedFile {
    size: u64,
    mtime: Timestamp,
    ctime: Timestamp,
}

impl PlannedFile {
    fn new(tree: &LayerTree, node: NodeId) -> Self {
        let regular = tree
            .regular(node)
            .expect("only regular files have data runs");
        let meta = &tree.node(node).meta;
        Self {
            size: regular.size,
            mtime: meta.mtime,
            ctime: meta.ctime,
        }
    }
}

/// An open regular file of a branch.
#[derive(Debug)]
pub(crate) struct SourceFile<'a> {
    layer: &'a Layer,
    node: NodeId,
    file: File,
    planned: PlannedFile,
}

impl SourceFile<'_> {
    /// Fills `buffer` with the file's bytes from `offset`, and with zeros beyond its end.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        let left = usize::try_from(self.planned.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (content, tail) = buffer.split_at_mut(left.min(buffer.len()));
        tail.fill(0);
        match self.file.read_exact_at(content, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.changed("its size"))
            }
            read => read.map_err(|source| self.io_error("read", source)),
        }
    }

    /// Checks that the file is still as planned. Called before and after its bytes are read: a write in between changes
    /// the times.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let stat = fstat(&self.file).map_err(|errno| self.io_error("stat", errno.into()))?;
        match self.planned.difference(&stat) {
            Some(what) => Err(self.changed(what)),
            None => Ok(()),
        }
    }

    /// Shares a range of the file's blocks with `target`.
    pub(crate) fn share(&self, target: &File, range: CloneRange) -> Result<(), Errno> {
        clone_range(&self.file, target, range)
    }

    /// The ranges of its content on its device, in bytes.
    pub(crate) fn extents(&self) -> Result<Vec<Range<u64>>, Errno> {
        extents_of(&self.file)
    }

    /// Its length in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.planned.size
    }

    pub(crate) fn io_error(&self, op: &'static str, source: io::Error) -> Error {
        let (layer, path) = (
            self.layer.id.clone(),
            self.layer.tree.display_path(self.node),
        );
        Error::Unreadable {
            layer,
            path,
            op,
            source,
        }
    }

    fn changed(&self, what: &'static str) -> Error {
        Error::Changed {
            layer: self.layer.id.clone(),
            path: self.layer.tree.display_path(self.node),
            what,
        }
    }
}

impl PlannedFile {
    fn difference(self, stat: &FileStat) -> Option<&'static str> {
        let time = |sec, nsec| {
            let nsec = u32::try_from(nsec).unwrap_or(u32::MAX);
            Timestamp::new(sec, nsec).clamped()
        };
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            Some("its type")
        } else if u64::try_from(stat.st_size) != Ok(self.size) {
            Some("its size")
        } else if time(stat.st_mtime, stat.st_mtime_nsec) != self.mtime {
            Some("its modification time")
        } else if time(stat.st_ctime, stat.st_ctime_nsec) != self.ctime {
            Some("its inode")
        } else {
            None
        }
    }
}
