//! What `lstat` returns for a file, and the flags that `chattr` sets, with a single call.

use std::ffi::{CStr, CString};
use std::fs::Metadata;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::libc::{AT_FDCWD, S_IFDIR, S_IFMT, S_IFREG};
use nix::sys::stat::{FileStat, fstatat};

use super::statx::{
    STATX_ATTR_APPEND, STATX_ATTR_IMMUTABLE, STATX_ATTR_NODUMP, STATX_BASIC_STATS, STATX_BTIME,
    Statx,
};

/// Set once the kernel has reported that it has no `statx`, so that it is not tried again for each file.
static NO_STATX: AtomicBool = AtomicBool::new(false);

/// A flag set by `chattr`, of those that the kernel reports without opening the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InodeFlag {
    /// `i`: nobody can change, remove, rename or link it.
    Immutable,
    /// `a`: it can only be appended to.
    AppendOnly,
    /// `d`: `dump` skips it.
    NoDump,
}

const TOLD: [(u64, InodeFlag); 3] = [
    (STATX_ATTR_IMMUTABLE, InodeFlag::Immutable),
    (STATX_ATTR_APPEND, InodeFlag::AppendOnly),
    (STATX_ATTR_NODUMP, InodeFlag::NoDump),
];

/// What `lstat` returns, and the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Its file system.
    pub device: u64,
    /// Its inode number.
    pub inode: u64,
    /// The number of its names.
    pub links: u64,
    /// Length in bytes.
    pub size: u64,
    /// The number of 512-byte units that it uses.
    pub blocks: u64,
    /// The number of a device special file.
    pub node: u64,
    /// Last access, seconds and nanoseconds.
    pub atime: (i64, u32),
    /// Last change of the content.
    pub mtime: (i64, u32),
    /// Last change of the inode.
    pub ctime: (i64, u32),
    attributes: u64,
    flags_told: bool,
}

/// The creation time of a file or directory, in seconds since 1970 and nanoseconds; `None` if the kernel or the file
/// system does not report it. Nobody can set it, and a copy has a time of its own.
pub fn birth(path: &Path) -> Option<(i64, u32)> {
    let name = CString::new(path.as_os_str().as_bytes()).ok()?;
    let stat = Statx::at(AT_FDCWD, &name, STATX_BTIME).ok()?;
    (stat.mask & STATX_BTIME != 0).then_some((stat.birth.sec, stat.birth.nsec))
}

impl Stat {
    /// Examines a name in an open directory; a symbolic link is not followed.
    ///
    /// # Errors
    ///
    /// The kernel's error, as for `fstatat`.
    pub fn at(directory: impl AsFd, name: &CStr) -> Result<Self, Errno> {
        if !NO_STATX.load(Ordering::Relaxed) {
            match Statx::at(directory.as_fd().as_raw_fd(), name, STATX_BASIC_STATS) {
                Ok(stat) => return Ok(Self::from_statx(&stat)),
                // Before Linux 4.11, or if a filter refuses calls that it does not know.
                Err(Errno::ENOSYS | Errno::EPERM) => NO_STATX.store(true, Ordering::Relaxed),
                Err(errno) => return Err(errno),
            }
        }
        fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).map(|stat| Self::from(&stat))
    }

    fn from_statx(stat: &Statx) -> Self {
        let asked = STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND;
        Self {
            mode: stat.mode.into(),
            uid: stat.uid,
            gid: stat.gid,
            device: stat.device(),
            inode: stat.inode,
            links: stat.links.into(),
            size: stat.size,
            blocks: stat.blocks,
            node: stat.node(),
            atime: (stat.atime.sec, stat.atime.nsec),
            mtime: (stat.mtime.sec, stat.mtime.nsec),
            ctime: (stat.ctime.sec, stat.ctime.nsec),
            attributes: stat.attributes & stat.attributes_mask,
            flags_told: stat.attributes_mask & asked == asked,
        }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.mode & S_IFMT == S_IFDIR
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.mode & S_IFMT == S_IFREG
    }

    /// Its flags; `None` if the kernel or the file system reports none without opening the file.
    pub fn flags(&self) -> Option<impl Iterator<Item = InodeFlag>> {
        let set = |(bit, flag): (u64, InodeFlag)| (self.attributes & bit != 0).then_some(flag);
        self.flags_told.then(|| TOLD.into_iter().filter_map(set))
    }
}

impl From<&Metadata> for Stat {
    /// Without flags.
    fn from(stat: &Metadata) -> Self {
        // The kernel keeps nanoseconds below one second; a file system that does not would only lose the fraction.
        let time = |sec, nsec| (sec, u32::try_from(nsec).unwrap_or(0));
        Self {
            mode: stat.mode(),
            uid: stat.uid(),
            gid: stat.gid(),
            device: stat.dev(),
            inode: stat.ino(),
            links: stat.nlink(),
            size: stat.len(),
            blocks: stat.blocks(),
            node: stat.rdev(),
            atime: time(stat.atime(), stat.atime_nsec()),
            mtime: time(stat.mtime(), stat.mtime_nsec()),
            ctime: time(stat.ctime(), stat.ctime_nsec()),
            attributes: 0,
            flags_told: false,
        }
    }
}

impl From<&FileStat> for Stat {
    /// Without flags.
    #[allow(clippy::unnecessary_cast)] // the widths depend on the architecture
    fn from(stat: &FileStat) -> Self {
        let time = |sec, nsec| (sec, u32::try_from(nsec).unwrap_or(0));
        let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
        Self {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            device: stat.st_dev,
            inode: stat.st_ino,
            links: stat.st_nlink as u64,
            size: unsigned(stat.st_size),
            blocks: unsigned(stat.st_blocks),
            node: stat.st_rdev,
            atime: time(stat.st_atime, stat.st_atime_nsec),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
            attributes: 0,
            flags_told: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::BorrowedFd;

    use super::*;

    const HERE: BorrowedFd<'_> = nix::fcntl::AT_FDCWD;

    fn at(path: &Path) -> Result<Stat, Errno> {
        Stat::at(HERE, &CString::new(path.as_os_str().as_bytes()).unwrap())
    }

    #[test]
    fn it_tells_what_lstat_tells() {
        for path in ["/", "/proc/self/exe", "/dev/null", "/proc/self/status"] {
            let path = Path::new(path);
            let told = at(path).unwrap();
            let lstat = Stat::from(&path.symlink_metadata().unwrap());
            let name = CString::new(path.as_os_str().as_bytes()).unwrap();
            let fstatat = fstatat(HERE, &*name, AtFlags::AT_SYMLINK_NOFOLLOW).unwrap();
            assert_eq!(Stat::from(&fstatat).node, lstat.node);
            assert_eq!(Stat::from(&fstatat).links, lstat.links);
            assert_eq!(Stat::from(&fstatat).mode, lstat.mode);
            let without = Stat {
                attributes: 0,
                flags_told: false,
                ..told
            };
            // Files below /proc get their times when they are examined.
            let times = Stat {
                atime: told.atime,
                mtime: told.mtime,
                ctime: told.ctime,
                ..lstat
            };
            assert_eq!(without, times, "{}", path.display());
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let told = at(file.path()).unwrap();
        let lstat = Stat::from(&file.path().symlink_metadata().unwrap());
        assert_eq!(told.mtime, lstat.mtime);
        assert_eq!(told.ctime, lstat.ctime);
        assert_eq!(told.atime, lstat.atime);
        assert!(at(&file.path().join("x")).is_err());
    }
}
