//! Reads the tree of a mounted file system as it is, without any aufs rules.
//!
//! The file system is treated as hostile: directories are entered one at a time, by descriptor and without following
//! links, and left through `..`. Nothing on another file system is looked at, no directory is entered twice, and only
//! regular files are opened. Anything unreadable is a fault of the file system, reported with its path, and the rest is
//! still read.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, major, minor};

use crate::content::{Halt, ReadJob};
use crate::tree::{
    DeviceNumber, Kind, LayerTree, Listing, Meta, NodeId, Regular, Timestamp, Xattrs, escape,
};
use crate::verify::layer_report::Faults;
use crate::words::counted;

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// A tree that was read.
#[derive(Debug)]
pub(super) struct TreeRead {
    /// All entries; no name is treated as a whiteout.
    pub(super) tree: LayerTree,
    /// Unreadable entries, and files that have names elsewhere.
    pub(super) faults: Faults,
}

/// Reads the tree below a directory.
pub(super) fn read_tree(work: &ReadJob<'_>, root: File) -> Result<TreeRead, Halt> {
    let mut faults = Faults::default();
    let (stat, meta) = match root.metadata().and_then(|stat| {
        let meta = meta(&at(&root, b"."), &stat)?;
        Ok((stat, meta))
    }) {
        Ok(read) => read,
        Err(error) => {
            faults.push(format_args!("/: cannot be read: {error}"));
            let tree = LayerTree::new(Meta::default());
            return Ok(TreeRead { tree, faults });
        }
    };
    let mut walk = Walk {
        work,
        device: stat.dev(),
        tree: LayerTree::new(meta),
        entered: HashSet::from([stat.ino()]),
        links: HashMap::new(),
        faults,
        open: Vec::new(),
    };
    walk.run(root, stat.ino())?;
    walk.links();
    Ok(TreeRead {
        tree: walk.tree,
        faults: walk.faults,
    })
}

/// A directory on the current path, with the subdirectories that are still to be entered.
struct Level {
    ino: u64,
    name: Box<[u8]>,
    pending: Vec<(Box<[u8]>, NodeId, u64)>,
}

/// A file with several names.
struct HardLinkedFile {
    node: NodeId,
    names: u64,
    links: u64,
}

struct Walk<'a> {
    work: &'a ReadJob<'a>,
    device: u64,
    tree: LayerTree,
    entered: HashSet<u64>,
    links: HashMap<u64, HardLinkedFile>,
    faults: Faults,
    open: Vec<Level>,
}

impl Walk<'_> {
    fn run(&mut self, root: File, ino: u64) -> Result<(), Halt> {
        let mut here = root;
        self.enter(&here, (LayerTree::ROOT, ino, (*b"").into()))?;
        while let Some(level) = self.open.last_mut() {
            if let Some((name, node, ino)) = level.pending.pop() {
                match open_same(&here, &name, ino) {
                    Ok(directory) => {
                        here = directory;
                        self.enter(&here, (node, ino, name))?;
                    }
                    Err(error) => self.fault(&name, &format!("cannot be opened: {error}")),
                }
                continue;
            }
            self.open.pop();
            let Some(above) = self.open.last().map(|above| above.ino) else {
                break;
            };
            match open_same(&here, b"..", above) {
                Ok(directory) => here = directory,
                Err(error) => {
                    self.fault(b"", &format!("cannot be reopened: {error}"));
                    break;
                }
            }
        }
        Ok(())
    }

    fn fault(&mut self, name: &[u8], what: &str) {
        let above = self.open.iter().map(|level| &*level.name);
        let path: Vec<_> = above
            .chain([name])
            .filter(|name| !name.is_empty())
            .collect();
        let path = path.join(&b'/');
        self.faults.push(format_args!("/{}: {what}", escape(&path)));
    }

    /// Reads a directory's entries, and queues the directories among them.
    fn enter(
        &mut self,
        directory: &File,
        (node, ino, name): (NodeId, u64, Box<[u8]>),
    ) -> Result<(), Halt> {
        self.open.push(Level {
            ino,
            name,
            pending: Vec::new(),
        });
        let mut entries: Vec<(Box<[u8]>, NodeId)> = Vec::new();
        for name in self.names(directory) {
            self.work.go_on()?;
            match self.entry(directory, &name) {
                Ok(Some(node)) => entries.push((name, node)),
                Ok(None) => {}
                Err(error) => self.fault(&name, &format!("cannot be read: {error}")),
            }
        }
        self.tree.set_directory(
            node,
            Listing {
                entries,
                ..Listing::default()
            },
        );
        Ok(())
    }

    /// The names of a directory, each once.
    fn names(&mut self, directory: &File) -> Vec<Box<[u8]>> {
        let mut names = Vec::new();
        match fs::read_dir(at(directory, b".")) {
            Err(error) => self.fault(b"", &format!("cannot be listed: {error}")),
            Ok(listing) => {
                for entry in listing {
                    match entry {
                        Ok(entry) => names.push(entry.file_name().into_vec().into_boxed_slice()),
                        Err(error) => {
                            self.fault(b"", &format!("cannot be listed: {error}"));
                            break;
                        }
                    }
                }
            }
        }
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        if names.len() < all {
            self.fault(b"", "contains a name twice");
        }
        names
    }

    fn entry(&mut self, directory: &File, name: &[u8]) -> io::Result<Option<NodeId>> {
        let path = at(directory, name);
        let stat = path.symlink_metadata()?;
        if stat.dev() != self.device {
            self.fault(name, "is on another file system");
            return Ok(None);
        }
        if !stat.is_dir()
            && let Some(known) = self.links.get_mut(&stat.ino())
        {
            known.names += 1;
            return Ok(Some(known.node));
        }
        let meta = meta(&path, &stat)?;
        let kind = kind(&path, &stat)?;
        let node = self.tree.add(meta, kind);
        if stat.is_dir() {
            if self.entered.insert(stat.ino()) {
                let level = self.open.last_mut().expect("it was just entered");
                level.pending.push((name.into(), node, stat.ino()));
            } else {
                self.fault(name, "is a directory that also has another name");
            }
        } else {
            let linked = HardLinkedFile {
                node,
                names: 1,
                links: stat.nlink(),
            };
            self.links.insert(stat.ino(), linked);
        }
        Ok(Some(node))
    }

    /// Checks that no file has names elsewhere or missing names.
    fn links(&mut self) {
        let mut wrong: Vec<_> = self
            .links
            .values()
            .filter(|file| file.names != file.links)
            .collect();
        wrong.sort_unstable_by_key(|file| file.node);
        for file in wrong {
            let path = self.tree.display_path(file.node);
            let (links, names) = (file.links, counted(file.names, "name"));
            self.faults.push(format_args!(
                "{path}: has a link count of {links}, but {names} found"
            ));
        }
    }
}

/// A path to an entry of an open directory, whatever has happened to the names above it.
fn at(directory: &File, name: &[u8]) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    path.push(OsStr::from_bytes(name));
    path
}

fn open_same(directory: &File, name: &[u8], ino: u64) -> io::Result<File> {
    let opened = File::from(openat(directory, name, DIRECTORY, Mode::empty())?);
    if opened.metadata()?.ino() != ino {
        return Err(io::Error::other("it leads to another directory"));
    }
    Ok(opened)
}

fn meta(path: &std::path::Path, stat: &Metadata) -> io::Result<Meta> {
    Ok(Meta {
        mode: u16::try_from(stat.mode() & 0o7777).expect("twelve bits fit"),
        uid: stat.uid(),
        gid: stat.gid(),
        atime: timestamp(stat.atime(), stat.atime_nsec()),
        mtime: timestamp(stat.mtime(), stat.mtime_nsec()),
        ctime: timestamp(stat.ctime(), stat.ctime_nsec()),
        xattrs: xattrs(path)?,
    })
}

fn timestamp(sec: i64, nsec: i64) -> Timestamp {
    Timestamp::new(sec, u32::try_from(nsec).unwrap_or(0).min(999_999_999))
}

/// XFS shows root each ACL a second time under its on-disk name. Source: linux v6.6 `fs/xfs/xfs_xattr.c`,
/// `xfs_xattr_put_listent`.
const TWINS: [(&[u8], &[u8]); 2] = [
    (b"trusted.SGI_ACL_FILE", b"system.posix_acl_access"),
    (b"trusted.SGI_ACL_DEFAULT", b"system.posix_acl_default"),
];

fn xattrs(path: &std::path::Path) -> io::Result<Xattrs> {
    let names: Vec<_> = xattr::list(path)?.collect();
    let has = |wanted: &[u8]| names.iter().any(|name| name.as_bytes() == wanted);
    let is_twin = |name: &[u8]| TWINS.iter().any(|(own, other)| *own == name && has(other));
    let own = names.iter().filter(|name| !is_twin(name.as_bytes()));
    own.map(|name| {
        let value = xattr::get(path, name)?;
        let value =
            value.ok_or_else(|| io::Error::other("an attribute that is listed is missing"))?;
        Ok((name.as_bytes().into(), value.into()))
    })
    .collect()
}

fn kind(path: &std::path::Path, stat: &Metadata) -> io::Result<Kind> {
    let kind = stat.file_type();
    let number = || {
        let half = |n| u32::try_from(n).map_err(io::Error::other);
        Ok::<_, io::Error>(DeviceNumber {
            major: half(major(stat.rdev()))?,
            minor: half(minor(stat.rdev()))?,
        })
    };
    Ok(if kind.is_dir() {
        Kind::Directory(Box::default())
    } else if kind.is_file() {
        Kind::Regular(Regular {
            size: stat.len(),
            segments: None,
        })
    } else if kind.is_symlink() {
        Kind::Symlink(path.read_link()?.into_os_string().into_vec().into())
    } else if kind.is_char_device() {
        Kind::CharDevice(number()?)
    } else if kind.is_block_device() {
        Kind::BlockDevice(number()?)
    } else if kind.is_fifo() {
        Kind::Fifo
    } else if kind.is_socket() {
        Kind::Socket
    } else {
        return Err(io::Error::other("its type is unknown"));
    })
}
