//! Reading below a Docker root. It changes nothing there, and no symbolic link leads it outside.
//!
//! Opens every directory relative to its parent, and every name with `O_NOFOLLOW`. Leaves access times unchanged where
//! the kernel allows it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use serde::Serialize;
use thiserror::Error;

pub(crate) use crate::tree::shown;

/// The size of the largest file that is read as a whole. Docker's largest, a container's config, has a few hundred KiB
/// at most.
pub const MAX_FILE_BYTES: u64 = 64 << 20; // 64 MiB

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, a pipe or a socket.
    Special,
}

impl FileKind {
    fn of(stat: &FileStat) -> Self {
        let format = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        if format == SFlag::S_IFREG {
            Self::Regular
        } else if format == SFlag::S_IFDIR {
            Self::Directory
        } else if format == SFlag::S_IFLNK {
            Self::Symlink
        } else {
            Self::Special
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Regular => "regular file",
            Self::Directory => "directory",
            Self::Symlink => "symbolic link",
            Self::Special => "special file",
        })
    }
}

/// Why a file or directory of the root cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The operating system refuses.
    #[error("{}: cannot {op}", shown(path))]
    Io {
        /// The operation that failed: `open`, `read`, `list`, `stat`.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// An entry of another kind is where a file or directory belongs.
    #[error("{}: is a {found}, not a {expected}", shown(path))]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// The kind that belongs there.
        expected: FileKind,
        /// The kind that is there.
        found: FileKind,
    },
    /// The file is larger than [`MAX_FILE_BYTES`].
    #[error("{}: is larger than {} MiB, so it is not what Docker writes there", shown(path), MAX_FILE_BYTES >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

impl ReadError {
    /// The file or directory that cannot be read.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. } | Self::WrongKind { path, .. } | Self::TooLarge { path } => path,
        }
    }
}

/// An entry of a directory.
#[derive(Debug)]
pub(crate) struct DirEntry {
    pub(crate) name: OsString,
    pub(crate) kind: FileKind,
}

/// An open directory.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens a directory by its path and follows symbolic links. Only for the root itself.
    pub(crate) fn open(path: &Path) -> Result<Self, ReadError> {
        let fd = open_quietly(nix::fcntl::AT_FDCWD, path.as_os_str(), OFlag::O_DIRECTORY);
        Self::opened(fd, path.to_path_buf())
    }

    /// Opens a directory below this one, which must not be a symbolic link.
    pub(crate) fn dir(&self, name: impl AsRef<OsStr>) -> Result<Self, ReadError> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let fd = open_quietly(self.fd.as_fd(), name.as_ref(), flags);
        // For a symbolic link, O_DIRECTORY gives ENOTDIR, which does not say what is there.
        if matches!(fd, Err(Errno::ENOTDIR | Errno::ELOOP))
            && let Some(found) = self.kind(&name)?
        {
            let (path, expected) = (self.join(&name), FileKind::Directory);
            return Err(ReadError::WrongKind {
                path,
                expected,
                found,
            });
        }
        Self::opened(fd, self.join(name))
    }

    /// Opens a directory below this one and follows symbolic links. For `aufs`, which operators move to other disks
    /// with a link.
    pub(crate) fn dir_following(&self, name: &str) -> Result<Self, ReadError> {
        let fd = open_quietly(self.fd.as_fd(), OsStr::new(name), OFlag::O_DIRECTORY);
        Self::opened(fd, self.join(name))
    }

    /// [`dir_following`](Self::dir_following), or `None` if the name does not exist or is a dangling link.
    pub(crate) fn dir_following_if_any(&self, name: &str) -> Result<Option<Self>, ReadError> {
        absent_is_none(self.dir_following(name))
    }

    /// [`dir`](Self::dir), or `None` if the name does not exist.
    pub(crate) fn dir_if_any(&self, name: impl AsRef<OsStr>) -> Result<Option<Self>, ReadError> {
        absent_is_none(self.dir(name))
    }

    fn opened(fd: nix::Result<OwnedFd>, path: PathBuf) -> Result<Self, ReadError> {
        match fd {
            Ok(fd) => Ok(Self { fd, path }),
            Err(errno) => Err(io_error("open", path, errno)),
        }
    }

    /// The directory's own status.
    pub(crate) fn stat(&self) -> Result<FileStat, ReadError> {
        fstat(&self.fd).map_err(|errno| io_error("stat", self.path.clone(), errno))
    }

    /// The directory's path, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a name in the directory, for messages.
    pub(crate) fn join(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path.join(name.as_ref())
    }

    /// The status of a name in the directory, without following links. `None`: the name does not exist.
    pub(crate) fn stat_of(&self, name: impl AsRef<OsStr>) -> Result<Option<FileStat>, ReadError> {
        match fstatat(&self.fd, name.as_ref(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(io_error("stat", self.join(name), errno)),
        }
    }

    /// The kind of a name in the directory, without following links. `None`: the name does not exist.
    pub(crate) fn kind(&self, name: impl AsRef<OsStr>) -> Result<Option<FileKind>, ReadError> {
        Ok(self.stat_of(name)?.as_ref().map(FileKind::of))
    }

    /// Whether the name is a directory, not a link to one.
    pub(crate) fn has_dir(&self, name: impl AsRef<OsStr>) -> Result<bool, ReadError> {
        Ok(self.kind(name)? == Some(FileKind::Directory))
    }

    /// Opens a regular file for reading. Checks its kind first, because merely opening a device can have effects.
    pub(crate) fn file(&self, name: impl AsRef<OsStr>) -> Result<File, ReadError> {
        let path = self.join(&name);
        let expected = FileKind::Regular;
        let found = self.kind(&name)?.unwrap_or(expected);
        if found != expected {
            return Err(ReadError::WrongKind {
                path,
                expected,
                found,
            });
        }
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        match open_quietly(self.fd.as_fd(), name.as_ref(), flags) {
            Ok(fd) => Ok(File::from(fd)),
            Err(errno) => Err(io_error("open", path, errno)),
        }
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// [`ReadError::TooLarge`] above [`MAX_FILE_BYTES`]; [`ReadError::Io`] if the file does not exist.
    pub(crate) fn read(&self, name: impl AsRef<OsStr>) -> Result<Vec<u8>, ReadError> {
        let file = self.file(&name)?;
        let mut bytes = Vec::new();
        let read = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
        let path = self.join(name);
        match read {
            Err(source) => Err(ReadError::Io {
                op: "read",
                path,
                source,
            }),
            Ok(_) if bytes.len() as u64 > MAX_FILE_BYTES => Err(ReadError::TooLarge { path }),
            Ok(_) => Ok(bytes),
        }
    }

    /// [`read`](Self::read), or `None` if the name does not exist.
    pub(crate) fn read_if_any(
        &self,
        name: impl AsRef<OsStr>,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        absent_is_none(self.read(name))
    }

    /// The entries except `.` and `..`, sorted by name so that reports do not depend on the file system.
    pub(crate) fn list(&self) -> Result<Vec<DirEntry>, ReadError> {
        let failed = |errno| io_error("list", self.path.clone(), errno);
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let fd = open_quietly(self.fd.as_fd(), OsStr::new("."), flags).map_err(failed)?;
        let mut entries = dir::Dir::from_fd(fd).map_err(failed)?;
        let mut listed = Vec::new();
        for entry in entries.iter() {
            let entry = entry.map_err(failed)?;
            let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                Some(dir::Type::File) => FileKind::Regular,
                Some(dir::Type::Directory) => FileKind::Directory,
                Some(dir::Type::Symlink) => FileKind::Symlink,
                Some(_) => FileKind::Special,
                None => self.kind(&name)?.unwrap_or(FileKind::Special),
            };
            listed.push(DirEntry { name, kind });
        }
        listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// The entries of a directory in this one; none if it does not exist.
    pub(crate) fn list_if_any(&self, name: &str) -> Result<Vec<DirEntry>, ReadError> {
        self.dir_if_any(name)?
            .map_or(Ok(Vec::new()), |dir| dir.list())
    }
}

fn absent_is_none<T>(result: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens read-only, without updating the access time where possible: the kernel allows that only to the owner.
fn open_quietly(dir: BorrowedFd<'_>, name: &OsStr, flags: OFlag) -> nix::Result<OwnedFd> {
    let flags = flags | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    match openat(dir, name, flags | OFlag::O_NOATIME, Mode::empty()) {
        Err(Errno::EPERM) => openat(dir, name, flags, Mode::empty()),
        other => other,
    }
}

fn io_error(op: &'static str, path: PathBuf, errno: Errno) -> ReadError {
    ReadError::Io {
        op,
        path,
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("d")).unwrap();
        fs::write(temp.path().join("d/f"), "x").unwrap();
        symlink("d", temp.path().join("dl")).unwrap();
        symlink("f", temp.path().join("d/fl")).unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        assert_eq!(dir.dir("d").unwrap().read("f").unwrap(), b"x");
        let error = dir.dir("dl").unwrap_err().to_string();
        assert!(
            error.ends_with("/dl: is a symbolic link, not a directory"),
            "{error}"
        );
        let error = dir.dir("d").unwrap().read("fl").unwrap_err().to_string();
        assert!(
            error.ends_with("/d/fl: is a symbolic link, not a regular file"),
            "{error}"
        );
        assert_eq!(dir.dir_following("dl").unwrap().read("f").unwrap(), b"x");
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&temp.path().join("p"), Mode::S_IRWXU).unwrap();
        let error = Dir::open(temp.path()).unwrap().read("p").unwrap_err();
        assert!(matches!(
            error,
            ReadError::WrongKind {
                found: FileKind::Special,
                ..
            }
        ));
    }

    #[test]
    fn a_huge_file_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let file = File::create(temp.path().join("huge")).unwrap();
        file.set_len(MAX_FILE_BYTES + 1).unwrap();
        let error = Dir::open(temp.path()).unwrap().read("huge").unwrap_err();
        assert!(matches!(error, ReadError::TooLarge { .. }));
    }

    #[test]
    fn absent_is_told_from_unreadable() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        assert!(dir.read_if_any("no").unwrap().is_none());
        assert!(dir.dir_if_any("no").unwrap().is_none());
        assert!(dir.read("no").is_err());
        fs::write(temp.path().join("f"), "").unwrap();
        assert!(dir.dir_if_any("f").is_err());
    }

    #[test]
    fn reading_leaves_the_access_time() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("f"), "x").unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH;
        let times = fs::FileTimes::new().set_accessed(old);
        File::options()
            .write(true)
            .open(temp.path().join("f"))
            .unwrap()
            .set_times(times)
            .unwrap();
        Dir::open(temp.path()).unwrap().read("f").unwrap();
        let accessed = fs::metadata(temp.path().join("f"))
            .unwrap()
            .accessed()
            .unwrap();
        assert_eq!(accessed, old);
    }
}
