//! Shares ranges of files (reflink).
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::errno::Errno;

/// Argument of FICLONERANGE. Source: linux v6.6 `include/uapi/linux/fs.h`, `struct file_clone_range`.
#[repr(C)]
struct FileCloneRange {
    src_fd: i64,
    src_offset: u64,
    src_length: u64,
    dest_offset: u64,
}

const _: () = assert!(size_of::<FileCloneRange>() == 32);

mod ioctl {
    nix::ioctl_write_ptr!(ficlonerange, 0x94, 13, super::FileCloneRange);
}

/// A range of one file and its place in another, in bytes; all three are multiples of the file system's block size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloneRange {
    /// First byte in the source.
    pub from: u64,
    /// First byte in the target.
    pub to: u64,
    /// The number of bytes; not 0.
    pub len: u64,
}

/// Makes `target` share a range of `source`'s blocks instead of copying them.
///
/// # Errors
///
/// `EOPNOTSUPP`, `EXDEV`, `EINVAL`, `ENOTTY` if the file system or this pair of files does not support it.
pub fn clone_range(source: &File, target: &File, range: CloneRange) -> Result<(), Errno> {
    let argument = FileCloneRange {
        src_fd: i64::from(source.as_raw_fd()),
        src_offset: range.from,
        // 0 would mean: up to the end of the source.
        src_length: range.len.max(1),
        dest_offset: range.to,
    };
    // SAFETY: both descriptors are open for the duration of the call, and `argument` is a live value of the layout that
    // the kernel reads for this request.
    unsafe { ioctl::ficlonerange(target.as_raw_fd(), &raw const argument) }.map(drop)
}
