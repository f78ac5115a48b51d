//! The properties of an entry that xfs cannot hold.

use crate::tree::DeviceNumber;

/// The largest numbers of a device. Source: linux v6.6 `fs/xfs/xfs_iops.c`, `xfs_generic_create`;
/// `include/linux/kdev_t.h`, `sysv_valid_dev`.
pub(super) const MAX_DEVICE: DeviceNumber = DeviceNumber {
    major: 0x1ff,
    minor: (1 << 18) - 1,
};

/// The maximum length of a symbolic link's target. Source: linux v6.6 `fs/xfs/xfs_symlink.c`, `xfs_symlink`: shorter
/// than `XFS_SYMLINK_MAXLEN`, 1024.
pub(super) const MAX_TARGET: usize = 1023;

/// A property of an entry that xfs cannot hold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum XfsProblem {
    /// The target of a symbolic link is too long.
    #[error("symbolic link target of {bytes} bytes: xfs allows at most {MAX_TARGET}")]
    Target {
        /// Its length.
        bytes: usize,
    },
    /// A device number is too large.
    #[error(
        "device number {major}:{minor}: xfs allows at most {}:{}",
        MAX_DEVICE.major,
        MAX_DEVICE.minor
    )]
    Device {
        /// The major number.
        major: u32,
        /// The minor number.
        minor: u32,
    },
}
