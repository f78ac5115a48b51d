//! The facts about the root that Docker will start on.

use super::driver_files::FileSystem;
use crate::units::Bytes;

/// The converted root, or the one that a conversion will produce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The storage options that Docker needs to find the pool; none for loop files.
    pub storage_opts: Vec<String>,
    /// The devices' size, Docker's `dm.basesize`.
    pub base_size: Bytes,
    /// The size of the pool's data blocks, Docker's `dm.blocksize`.
    pub data_block: Bytes,
    /// The devices' file system.
    pub file_system: FileSystem,
    /// The sizes of the pool's loop files; `None` for a pool on given devices.
    pub files: Option<LoopFiles>,
    /// How full the pool will be, if known.
    pub space: Option<Space>,
}

/// Sizes of the pool's sparse files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopFiles {
    /// Size of the data file.
    pub data: Bytes,
    /// Size of the metadata file.
    pub metadata: Bytes,
    /// The free space that will be left on the file system that holds them, if known.
    pub disk_free: Option<Bytes>,
}

/// How full a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Size of the data.
    pub data: Bytes,
    /// Used part of the data.
    pub data_used: Bytes,
    /// Size of the metadata.
    pub metadata: Bytes,
    /// Used part of the metadata.
    pub metadata_used: Bytes,
}
