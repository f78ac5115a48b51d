//! What the devicemapper driver and the daemon around it check when they start, tried on the files alone.
//!
//! Source: moby v20.10 `daemon/graphdriver/devmapper/deviceset.go`, `initDevmapper` and what it calls, in its order:
//! the pool, `metadata/` with all files in it, an unfinished transaction, the device set, the base device; then the image
//! store and the containers. What only the running system can tell (is udev there, is the pool active) is not tried.

mod devices;
mod fault;
mod files;
mod severity;
mod store;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use crate::docker::Dir;
use crate::units::Bytes;

pub use fault::{DeviceFileError, StartFault};
pub use severity::Severity;

/// Where the files are. They may still lie in a staging directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The driver's directory, `devicemapper`.
    pub driver: PathBuf,
    /// The image store, `image/devicemapper`.
    pub image: PathBuf,
    /// The Docker root whose `containers` belong to it; `None` if they are not switched yet.
    pub root: Option<PathBuf>,
}

/// What is known of the pool.
pub struct Pool<'a> {
    /// Its transaction id.
    pub transaction_id: u64,
    /// The ids of its thin devices.
    pub devices: &'a BTreeSet<u32>,
    /// Sizes that its metadata records, for a pool in loop files; `None` on given devices.
    pub files: Option<FileSizes>,
    /// Whether Docker is told of an active pool by `dm.thinpooldev`.
    pub is_given: bool,
    /// The file system on a thin device, as `blkid` would print it.
    pub file_system_of: &'a dyn Fn(u32) -> io::Result<FileSystemIdentity>,
}

/// The least sizes of a pool's files: the kernel refuses smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSizes {
    /// Of the data.
    pub data: Bytes,
    /// Of the metadata.
    pub metadata: Bytes,
}

/// A file system by its superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystemIdentity {
    /// Its UUID, in lower case with dashes.
    pub uuid: String,
    /// Its kind: `ext4`, `xfs`.
    pub kind: String,
}

impl std::fmt::Debug for Pool<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("transaction_id", &self.transaction_id)
            .field("devices", &self.devices.len())
            .field("files", &self.files)
            .field("is_given", &self.is_given)
            .finish_non_exhaustive()
    }
}

/// Tries what Docker tries when it starts. Changes nothing.
///
/// An empty list does not promise that Docker starts, but a [`Refusal`](self::severity::Severity::Refusal) in it does promise that it
/// does not. (One exception: a symbolic link in `metadata/` is told as a refusal, and Docker follows it.)
pub fn start_checks(home: &Home, pool: &Pool<'_>) -> Vec<StartFault> {
    let mut faults = Vec::new();
    if let Err(error) = check(home, pool, &mut faults) {
        faults.push(StartFault::Unreadable { source: error });
    }
    faults.sort_by_key(StartFault::severity);
    faults
}

fn check(
    home: &Home,
    pool: &Pool<'_>,
    faults: &mut Vec<StartFault>,
) -> Result<(), crate::docker::ReadError> {
    if home.driver.is_symlink() {
        let path = home.driver.clone();
        faults.push(StartFault::HomeIsLink { path });
    }
    let driver = Dir::open(&home.driver)?;
    files::check_loop_files(&driver, pool, faults);
    let found = files::read_devices(&driver, faults)?;
    devices::check(&found, pool, faults);
    devices::check_transaction(&driver, &found, pool, faults)?;
    devices::check_base(&driver, &found, pool, faults)?;
    store::check(home, &found, faults)
}
