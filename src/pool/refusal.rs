//! Why a device or pool is not suitable. Each message follows a path and a colon.

use std::path::{Path, PathBuf};

use crate::shell::word;
use crate::thin;
use crate::units::Bytes;

/// Why a device or pool is not suitable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is nothing at the path.
    #[error("does not exist. Next: create it, or activate it (LVM: vgchange -ay)")]
    Missing,
    /// It is not a device-mapper device.
    #[error(
        "is not a device-mapper device, so it is not a thin pool. Next: create one and pass it as /dev/mapper/NAME"
    )]
    NotDeviceMapper,
    /// It is a device-mapper device, but not a pool.
    #[error("is not a thin pool, but a device with the target {target}")]
    NotAPool {
        /// The target's type.
        target: String,
    },
    /// It is LVM's stand-in for a pool that has or had LVM's own thin volumes: from then on, LVM counts their
    /// transactions.
    #[error(
        "is LVM's stand-in for a pool that has or had LVM thin volumes ({pool}), which cannot be shared with Docker. \
         Next: create a pool that never had one (lvcreate --type thin-pool)"
    )]
    LvmWrapper {
        /// The pool itself.
        pool: String,
    },
    /// The pool has or had LVM's own thin volumes.
    #[error(
        "is the hidden half of an LVM pool that has or had LVM thin volumes, which cannot be shared with Docker. \
         Next: create a pool that never had one (lvcreate --type thin-pool)"
    )]
    LvmHidden,
    /// The device is suspended and holds back I/O.
    #[error("is suspended. Next: find out what suspended it, or resume it (dmsetup resume {name})")]
    Suspended {
        /// The pool's name.
        name: String,
    },
    /// Another table is loaded for the device but not yet in use.
    #[error(
        "has an inactive table loaded. Next: find out what loaded it, or clear it (dmsetup clear {name})"
    )]
    Loaded {
        /// The pool's name.
        name: String,
    },
    /// The device has no table.
    #[error("has no table. Next: activate it (lvchange -ay, or dmsetup load and resume)")]
    NotActive,
    /// It cannot be written to.
    #[error("is read-only. Next: make it writable")]
    ReadOnly,
    /// The pool is in a state that only a repair ends.
    #[error(
        "cannot be written to: {problem}. Next: deactivate it, run thin_check (and thin_repair if necessary) on its \
         metadata"
    )]
    Broken {
        /// The problem that its status shows.
        problem: super::status::Problem,
    },
    /// The pool has no free data block.
    #[error("has no free data blocks. Next: extend it")]
    Full,
    /// The pool is not empty.
    #[error(
        "already contains data ({blocks} blocks), but the pool must be empty; Docker refuses any other too"
    )]
    HoldsData {
        /// Data blocks in use.
        blocks: u64,
    },
    /// The pool has thin devices to which nothing was written.
    #[error(
        "already contains thin devices ({count}, from number {first} on), but the pool must be empty. Next: delete \
         them (dmsetup message {pool} 0 'delete {first}')"
    )]
    HoldsDevices {
        /// Their number.
        count: usize,
        /// The lowest id.
        first: thin::ThinId,
        /// The pool's name.
        pool: String,
    },
    /// Something holds a metadata snapshot of the pool.
    #[error(
        "has a held metadata snapshot. Next: wait until it is released, or release it \
         (dmsetup message {pool} 0 release_metadata_snap)"
    )]
    HeldRoot {
        /// The pool's name.
        pool: String,
    },
    /// A metadata operation failed earlier.
    #[error(
        "is marked as needing a check, so the kernel allows no writes. Next: deactivate it, run `thin_check \
         --clear-needs-check-flag {}`, and activate it again; for an LVM pool, `lvconvert --repair` does this",
        word(metadata)
    )]
    NeedsCheck {
        /// The metadata device.
        metadata: PathBuf,
    },
    /// The pool's metadata cannot be read.
    #[error(
        "has metadata that cannot be interpreted ({0}). Next: deactivate it and run thin_check on it"
    )]
    Metadata(thin::Error),
    /// The pool's data blocks are too large.
    #[error(
        "has data blocks of {block}; each block that a layer changes would take that much space, so the maximum is \
         {most}"
    )]
    BlockSize {
        /// Its block size.
        block: Bytes,
        /// The largest suitable block size.
        most: Bytes,
    },
    /// Something else uses the device or file.
    #[error("is in use: {by}")]
    InUse {
        /// The users, as far as they are visible.
        by: String,
    },
    /// It is neither a block device nor a file.
    #[error("is neither a block device nor a regular file")]
    Kind,
    /// The same device is named for data and for metadata.
    #[error("is passed for both data and metadata; the pool needs two devices")]
    SameDevice,
    /// It has not enough space for any pool.
    #[error("has only {size}; at least {least} is needed")]
    TooSmall {
        /// Its size.
        size: Bytes,
        /// The size that is needed.
        least: Bytes,
    },
    /// It has the metadata of another pool.
    #[error(
        "begins with the metadata of a thin pool. Next: if that pool is no longer needed, wipe it with \
         `dd if=/dev/zero of={path} bs=4096 count=1 conv=notrunc,fsync`"
    )]
    OldPool {
        /// The device.
        path: String,
    },
    /// It has unknown content.
    #[error(
        "does not begin with zeros, so something may be on it. Next: if that is not needed, wipe it with \
         `dd if=/dev/zero of={path} bs=4096 count=1 conv=notrunc,fsync`"
    )]
    NotZero {
        /// The device.
        path: String,
    },
    /// It has known content.
    #[error("contains {what}. Next: if that is not needed, wipe it with `wipefs -a {path}`")]
    Signature {
        /// The name that `blkid` gives it.
        what: String,
        /// The device.
        path: String,
    },
}

impl Refusal {
    /// The refusal for an error that occurred while the metadata on a device was read.
    pub(crate) fn of_metadata(error: thin::Error, metadata: &Path) -> Self {
        match error {
            thin::Error::NeedsCheck => Self::NeedsCheck {
                metadata: metadata.to_owned(),
            },
            error => Self::Metadata(error),
        }
    }
}
