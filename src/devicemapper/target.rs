//! What is known of the root that Docker is to start on.

use super::driver_files::FileSystem;
use crate::units::Bytes;

/// The converted root, or the one that will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The storage options without which Docker does not find the pool; none for loop files.
    pub storage_opts: Vec<String>,
    /// The devices' size, Docker's `dm.basesize`.
    pub base_size: Bytes,
    /// The pool's data block, Docker's `dm.blocksize`.
    pub data_block: Bytes,
    /// The devices' file system.
    pub file_system: FileSystem,
    /// Sizes of the pool's loop files; `None` for a pool on given devices.
    pub files: Option<LoopFiles>,
    /// How full the pool will be, where that is known.
    pub space: Option<Space>,
}

/// Sizes of the pool's sparse files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopFiles {
    /// Of the data file.
    pub data: Bytes,
    /// Of the metadata file.
    pub metadata: Bytes,
    /// What will be free on the file system below them, where that is known.
    pub disk_free: Option<Bytes>,
}

/// How full a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of the data.
    pub data: Bytes,
    /// What of it is taken.
    pub data_used: Bytes,
    /// All of the metadata.
    pub metadata: Bytes,
    /// What of it is taken.
    pub metadata_used: Bytes,
}
