//! Identifies a directory and its mount. `st_dev` alone does not distinguish a bind mount of the same file system.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};

use super::inode_flags::{Immutability, frozen_open};
use super::statx::{STATX_ATTR_APPEND, STATX_ATTR_IMMUTABLE, STATX_INO, STATX_MNT_ID, Statx};

/// The identity of a file or directory, determined by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The mount through which it was reached, as the kernel's number.
    pub mount: u64,
    /// Its file system.
    pub device: u64,
    /// Its inode number.
    pub inode: u64,
}

impl Identity {
    /// The identity of an open directory, and its immutability flag.
    ///
    /// # Errors
    ///
    /// The kernel's error; `ENOTSUP` if the mount cannot be determined.
    pub fn of(directory: impl AsFd) -> Result<(Self, Option<Immutability>), Errno> {
        let fd = directory.as_fd();
        match statx(fd, c"") {
            Ok(stat) if stat.mask & STATX_MNT_ID != 0 => Ok((stat.identity(), stat.flag())),
            // Before Linux 5.8, before 4.11, or if a filter refuses calls that it does not know.
            Ok(_) | Err(Errno::ENOSYS | Errno::EPERM) => {
                let stat = fstat(fd)?;
                let identity = Self {
                    mount: mount_by_handle(fd).or_else(|_| mount_by_fdinfo(fd))?,
                    device: stat.st_dev,
                    inode: stat.st_ino,
                };
                Ok((identity, frozen_open(fd)))
            }
            Err(errno) => Err(errno),
        }
    }

    /// The identity of a name in a directory, which may be of any kind, without following links; `None` if only opening
    /// it would show this.
    pub fn of_name(directory: impl AsFd, name: &CStr) -> Option<Self> {
        let stat = statx(directory.as_fd(), name).ok()?;
        (stat.mask & STATX_MNT_ID != 0).then(|| stat.identity())
    }
}

/// The immutability flag of a name in a directory, without following links.
pub fn frozen_name(directory: impl AsFd, name: &CStr) -> Option<Immutability> {
    let fd = directory.as_fd();
    if let Some(flag) = statx(fd, name).ok().and_then(|stat| stat.flag()) {
        return Some(flag);
    }
    // Opening devices and pipes has unwanted effects.
    let stat = fstatat(fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    if kind != SFlag::S_IFREG && kind != SFlag::S_IFDIR {
        return None;
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = openat(fd, name, flags, Mode::empty()).ok()?;
    frozen_open(file.as_fd())
}

impl Statx {
    fn identity(&self) -> Identity {
        Identity {
            mount: self.mount,
            device: self.device(),
            inode: self.inode,
        }
    }

    fn flag(&self) -> Option<Immutability> {
        if self.attributes & STATX_ATTR_IMMUTABLE != 0 {
            Some(Immutability::Immutable)
        } else if self.attributes & STATX_ATTR_APPEND != 0 {
            Some(Immutability::AppendOnly)
        } else {
            None
        }
    }
}

/// Calls `statx` for a name in a directory, or for the open file itself if the name is empty.
fn statx(fd: BorrowedFd<'_>, name: &CStr) -> Result<Statx, Errno> {
    Statx::at(fd.as_raw_fd(), name, STATX_INO | STATX_MNT_ID)
}

/// `struct file_handle` without room for a handle. Source: linux v6.6 `include/linux/fs.h`.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
}

/// The number of a mount. The kernel returns it even if there is no space for the handle itself.
/// Source: linux v3.10 `fs/fhandle.c`, `do_sys_name_to_handle`.
fn mount_by_handle(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut handle = Handle { bytes: 0, kind: 0 };
    let mut mount: libc::c_int = -1;
    // SAFETY: all pointers are to live values; `bytes` says that the handle has room for none.
    let code = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            fd.as_raw_fd(),
            c"".as_ptr(),
            &raw mut handle,
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    match Errno::result(code) {
        Ok(_) | Err(Errno::EOVERFLOW) => u64::try_from(mount).map_err(|_| Errno::ENOTSUP),
        Err(errno) => Err(errno),
    }
}

/// The number of a mount. Since Linux 3.15.
fn mount_by_fdinfo(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
    let told = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    told.and_then(|number| number.trim().parse().ok())
        .ok_or(Errno::ENOTSUP)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn every_way_of_asking_tells_the_same_mount() {
        let dir = tempfile::tempdir().unwrap();
        let open = File::open(dir.path()).unwrap();
        let (identity, flag) = Identity::of(&open).unwrap();
        let meta = open.metadata().unwrap();
        assert_eq!((identity.device, identity.inode), (meta.dev(), meta.ino()));
        assert_eq!(flag, None);
        assert_eq!(mount_by_fdinfo(open.as_fd()).unwrap(), identity.mount);
        assert_eq!(mount_by_handle(open.as_fd()).unwrap(), identity.mount);
        let proc = File::open("/proc").unwrap();
        assert_ne!(Identity::of(&proc).unwrap().0.mount, identity.mount);
    }
}
