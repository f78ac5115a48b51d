//! Flags of a file for which even root's changes are refused.
#![allow(unsafe_code)]

use std::fs::OpenOptions;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::libc::{c_int, c_long};

/// Source: linux v6.6 `include/uapi/linux/fs.h`: `FS_IOC_GETFLAGS` is `_IOR('f', 1, long)`, but the kernel writes an
/// int.
mod ioctl {
    nix::ioctl_read_bad!(
        getflags,
        nix::request_code_read!(b'f', 1, size_of::<super::c_long>()),
        super::c_int
    );
}

const FS_IMMUTABLE_FL: c_int = 0x10;
const FS_APPEND_FL: c_int = 0x20;

/// Why nobody may replace, rename or link a file or change the names in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Immutability {
    /// `chattr +i`.
    Immutable,
    /// `chattr +a`.
    AppendOnly,
}

/// The flag that freezes a regular file or directory. `None` also if it cannot be opened, or if the file system has no
/// such flags.
pub fn frozen(path: &Path) -> Option<Immutability> {
    let meta = path.symlink_metadata().ok()?;
    if !meta.is_file() && !meta.is_dir() {
        return None;
    }
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .ok()?;
    frozen_open(file.as_fd())
}

/// Like [`frozen`], for an open file.
pub(super) fn frozen_open(file: BorrowedFd<'_>) -> Option<Immutability> {
    let mut flags: c_int = 0;
    // SAFETY: the descriptor is open for the duration of the call, and `flags` is a live int, which is what the kernel writes for this
    // request whatever its number says.
    unsafe { ioctl::getflags(file.as_raw_fd(), &raw mut flags) }.ok()?;
    if flags & FS_IMMUTABLE_FL != 0 {
        Some(Immutability::Immutable)
    } else if flags & FS_APPEND_FL != 0 {
        Some(Immutability::AppendOnly)
    } else {
        None
    }
}
