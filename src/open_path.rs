//! The directories from the top of a tree on disk to the one that is being read. They are entered one name at a time
//! through open descriptors, so neither the length of a path nor a symbolic link in it matters, and few are open at a
//! time.

use std::collections::VecDeque;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use crate::sys::Stat;

/// The number of directories that stay open on the path to the current one. Above them, `..` leads back.
const KEPT: usize = 16;

/// The length from which a directory's path may be too long for the kernel with one more name: `PATH_MAX`, less a slash,
/// a name and the NUL.
const LONG: usize = 4096 - 257;

const DIRECTORY: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
const LISTED: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// An open directory of the tree.
#[derive(Debug)]
pub(crate) struct OpenDirectory {
    fd: OwnedFd,
    /// A path that leads to it, for the calls that take nothing else: its own, or one through the descriptor if that is
    /// too long. The detour takes the kernel longer.
    path: PathBuf,
}

impl OpenDirectory {
    fn new(fd: OwnedFd, own: &[u8]) -> Self {
        let path = if own.len() < LONG {
            OsStr::from_bytes(own).into()
        } else {
            format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
        };
        Self { fd, path }
    }

    /// A second descriptor, to list its names.
    pub(crate) fn list(&self) -> Result<Dir, Errno> {
        self.list_below(c".")
    }

    /// One of its directories, to list the names there.
    pub(crate) fn list_below(&self, name: &CStr) -> Result<Dir, Errno> {
        Dir::openat(&self.fd, name, LISTED, Mode::empty())
    }

    /// One of its directories.
    pub(crate) fn open_below(&self, name: &CStr) -> Result<OwnedFd, Errno> {
        openat(&self.fd, name, DIRECTORY, Mode::empty())
    }

    /// A path to one of its names, short however deep the directory is.
    pub(crate) fn path_of(&self, name: &CStr) -> PathBuf {
        self.path.join(OsStr::from_bytes(name.to_bytes()))
    }
}

impl AsFd for OpenDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The path to the current directory.
#[derive(Debug)]
pub(crate) struct OpenPath {
    /// The directories from the root to the current one.
    levels: Vec<Level>,
    /// The last few of them.
    open: VecDeque<Rc<OpenDirectory>>,
    /// The path of the current directory, of whatever length.
    full: Vec<u8>,
}

/// A directory on the path.
#[derive(Debug)]
struct Level {
    identity: (u64, u64),
    /// The length of its path.
    length: usize,
}

impl OpenPath {
    /// Opens the root.
    pub(crate) fn new(root: &Path) -> Result<(Self, Stat), Errno> {
        let full = root.as_os_str().as_bytes().to_vec();
        let directory = OpenDirectory::new(open(root, DIRECTORY, Mode::empty())?, &full);
        let stat = Stat::at(&directory, c".")?;
        let path = Self {
            levels: vec![Level {
                identity: (stat.device, stat.inode),
                length: full.len(),
            }],
            open: VecDeque::from([Rc::new(directory)]),
            full,
        };
        Ok((path, stat))
    }

    /// The current directory.
    pub(crate) fn current(&self) -> &Rc<OpenDirectory> {
        self.open.back().expect("the current directory is open")
    }

    /// Enters a directory of the current one; `None` if it is not `expected`.
    pub(crate) fn enter(&mut self, name: &CStr, expected: (u64, u64)) -> Result<Option<()>, Errno> {
        let Some(fd) = self.open_in_current(name, expected)? else {
            return Ok(None);
        };
        self.full.push(b'/');
        self.full.extend_from_slice(name.to_bytes());
        self.levels.push(Level {
            identity: expected,
            length: self.full.len(),
        });
        let directory = OpenDirectory::new(fd, &self.full);
        self.open.push_back(Rc::new(directory));
        if self.open.len() > KEPT {
            self.open.pop_front();
        }
        Ok(Some(()))
    }

    /// Goes back to the directory above; `None` if the current one is no longer in it.
    pub(crate) fn leave(&mut self) -> Result<Option<()>, Errno> {
        self.levels.pop();
        let Some(above) = self.levels.last() else {
            return Ok(Some(()));
        };
        self.full.truncate(above.length);
        if self.open.len() == 1 {
            let Some(fd) = self.open_in_current(c"..", above.identity)? else {
                return Ok(None);
            };
            let directory = OpenDirectory::new(fd, &self.full);
            self.open.push_front(Rc::new(directory));
        }
        self.open.pop_back();
        Ok(Some(()))
    }

    fn open_in_current(&self, name: &CStr, expected: (u64, u64)) -> Result<Option<OwnedFd>, Errno> {
        let fd = self.current().open_below(name)?;
        let stat = Stat::at(&fd, c".")?;
        let is_expected = (stat.device, stat.inode) == expected;
        Ok(is_expected.then_some(fd))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn identity(path: &Path) -> (u64, u64) {
        let meta = path.symlink_metadata().unwrap();
        (meta.dev(), meta.ino())
    }

    #[test]
    fn any_depth_is_reached_and_left_with_few_directories_open() {
        let dir = tempfile::tempdir().unwrap();
        let mut deep = vec![dir.path().to_owned()];
        for level in 0..3 * KEPT {
            deep.push(deep[level].join(format!("d{level}")));
        }
        fs::create_dir_all(deep.last().unwrap()).unwrap();
        let (mut path, _) = OpenPath::new(dir.path()).unwrap();
        for (level, below) in deep[1..].iter().enumerate() {
            let name = CString::new(format!("d{level}")).unwrap();
            path.enter(&name, identity(below)).unwrap().unwrap();
            assert!(path.open.len() <= KEPT);
        }
        for above in deep.iter().rev().skip(1) {
            path.leave().unwrap().unwrap();
            assert_eq!(path.current().path_of(c"x"), above.join("x"));
            let stat = Stat::at(&**path.current(), c".").unwrap();
            assert_eq!((stat.device, stat.inode), identity(above));
        }
    }

    #[test]
    fn a_directory_that_was_replaced_or_moved_is_not_entered_or_left() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("a")).unwrap();
        fs::create_dir_all(at("b")).unwrap();
        std::os::unix::fs::symlink("b", at("link")).unwrap();
        let (mut path, _) = OpenPath::new(dir.path()).unwrap();
        assert!(path.enter(c"b", identity(&at("a"))).unwrap().is_none());
        assert_eq!(path.enter(c"link", identity(&at("b"))), Err(Errno::ENOTDIR));
        path.enter(c"a", identity(&at("a"))).unwrap().unwrap();
        path.open.pop_front();
        fs::rename(at("a"), at("b/a")).unwrap();
        assert!(path.leave().unwrap().is_none());
    }
}
