//! What is checked: files, and what is known of the pool.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use crate::units::Bytes;

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
