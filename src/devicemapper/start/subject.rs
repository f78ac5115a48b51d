//! The objects of the checks: the files, and what is known about the pool.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use crate::units::Bytes;

/// The paths of the files. They may still be in a staging directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The driver's directory, `devicemapper`.
    pub driver: PathBuf,
    /// The image store, `image/devicemapper`.
    pub image: PathBuf,
    /// The Docker root whose `containers` belong to it; `None` if they are not switched yet.
    pub root: Option<PathBuf>,
}

/// The facts about the pool.
pub struct Pool<'a> {
    /// Its transaction id.
    pub transaction_id: u64,
    /// The ids of its thin devices.
    pub devices: &'a BTreeSet<u32>,
    /// The sizes that its metadata records, for a pool in loop files; `None` for a pool on given devices.
    pub files: Option<FileSizes>,
    /// Whether `dm.thinpooldev` gives Docker an active pool.
    pub is_given: bool,
    /// The file system on a thin device, as `blkid` would print it.
    pub file_system_of: &'a dyn Fn(u32) -> io::Result<FileSystemIdentity>,
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

/// The minimum sizes of a pool's files. The kernel refuses smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSizes {
    /// Size of the data file.
    pub data: Bytes,
    /// Size of the metadata file.
    pub metadata: Bytes,
}

/// The identity of a file system according to its superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystemIdentity {
    /// Its UUID, in lower case with dashes.
    pub uuid: String,
    /// Its kind: `ext4`, `xfs`.
    pub kind: String,
}
