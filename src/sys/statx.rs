//! `statx`: returns what `lstat` does, the mount and the flags of a file in one call. Since Linux 4.11.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::libc;

/// `struct statx` up to the mount. Source: linux v6.6 `include/uapi/linux/stat.h`.
#[repr(C)]
#[derive(Default)]
pub(super) struct Statx {
    pub(super) mask: u32,
    block_size: u32,
    pub(super) attributes: u64,
    pub(super) links: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u16,
    spare: u16,
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Units of 512 bytes.
    pub(super) blocks: u64,
    /// The attributes that the file system reports.
    pub(super) attributes_mask: u64,
    pub(super) atime: StatxTime,
    pub(super) birth: StatxTime,
    pub(super) ctime: StatxTime,
    pub(super) mtime: StatxTime,
    node_major: u32,
    node_minor: u32,
    device_major: u32,
    device_minor: u32,
    pub(super) mount: u64,
    rest: [u64; 13],
}

/// `struct statx_timestamp`. Source: same as above.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct StatxTime {
    pub(super) sec: i64,
    pub(super) nsec: u32,
    spare: i32,
}

const _: () = assert!(size_of::<Statx>() == 256);

pub(super) const STATX_INO: u32 = 0x100;
pub(super) const STATX_BTIME: u32 = 0x800;
pub(super) const STATX_BASIC_STATS: u32 = 0x7ff;
pub(super) const STATX_MNT_ID: u32 = 0x1000;

pub(super) const STATX_ATTR_IMMUTABLE: u64 = 0x10;
pub(super) const STATX_ATTR_APPEND: u64 = 0x20;
pub(super) const STATX_ATTR_NODUMP: u64 = 0x40;

impl Statx {
    /// Examines a name in a directory, without following links, or the open file itself if the name is empty.
    pub(super) fn at(directory: RawFd, name: &CStr, mask: u32) -> Result<Self, Errno> {
        let mut stat = Self::default();
        let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_EMPTY_PATH;
        // SAFETY: the name outlives the call, `stat` has the size that the kernel fills, and a number that is no open directory is an
        // error and no more.
        let code = unsafe {
            libc::syscall(
                libc::SYS_statx,
                directory,
                name.as_ptr(),
                flags,
                mask,
                &raw mut stat,
            )
        };
        Errno::result(code).map(|_| stat)
    }

    /// The file system's number, as in `stat`.
    pub(super) fn device(&self) -> u64 {
        libc::makedev(self.device_major, self.device_minor)
    }

    /// The number of a device special file, as in `stat`.
    pub(super) fn node(&self) -> u64 {
        libc::makedev(self.node_major, self.node_minor)
    }
}
