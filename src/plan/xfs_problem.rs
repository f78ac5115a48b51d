//! What xfs cannot hold.

use crate::tree::DeviceNumber;

/// Largest numbers of a device. Source: linux v6.6 `fs/xfs/xfs_iops.c`, `xfs_generic_create`; `include/linux/kdev_t.h`,
/// `sysv_valid_dev`.
pub(super) const MAX_DEVICE: DeviceNumber = DeviceNumber {
    major: 0x1ff,
    minor: (1 << 18) - 1,
};

/// Longest target of a symbolic link. Source: linux v6.6 `fs/xfs/xfs_symlink.c`, `xfs_symlink`: shorter than
/// `XFS_SYMLINK_MAXLEN`, 1024.
pub(super) const MAX_TARGET: usize = 1023;

/// What xfs cannot hold of an entry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum XfsProblem {
    /// A symbolic link that is too long.
    #[error("symbolic link's target of {bytes} bytes: xfs takes {MAX_TARGET}")]
    Target {
        /// Its length.
        bytes: usize,
    },
    /// A device number that is too large.
    #[error(
        "device number {major}:{minor}: xfs takes up to {}:{}",
        MAX_DEVICE.major,
        MAX_DEVICE.minor
    )]
    Device {
        /// The driver.
        major: u32,
        /// The unit.
        minor: u32,
    },
}
