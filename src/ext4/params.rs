//! What all file systems of one pool share, and how one is used.

use serde::{Deserialize, Serialize};

use crate::tree::Timestamp;

/// Which metadata carries checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checksums {
    /// Group descriptors alone (feature `uninit_bg`): what every ext4 in use reads.
    #[default]
    GroupDescriptors,
    /// Everything (feature `metadata_csum`): Linux 3.6 and e2fsprogs 1.43 or newer.
    Metadata,
}

/// What all images of one pool share.
#[derive(Clone, Debug)]
pub struct Params {
    /// Size in blocks of 4 KiB. A last group too short for its own tables is left out.
    pub blocks: u32,
    /// Inodes in a group of 128 MiB: a multiple of 256 up to 32768; [`Params::INODES_PER_GROUP`] is `mkfs.ext4`'s ratio.
    pub inodes_per_group: u32,
    /// Identifies the file system.
    pub uuid: [u8; 16],
    /// Keys the hash of names in large directories.
    pub hash_seed: [u32; 4],
    /// Which metadata carries checksums.
    pub checksums: Checksums,
    /// When the file system was made, and the times of what is in an empty one.
    pub created: Timestamp,
}

impl Params {
    /// One inode per 16 KiB, as `mkfs.ext4` chooses.
    pub const INODES_PER_GROUP: u32 = 8192;
}

/// How much of a file system is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Blocks of 4 KiB in all.
    pub blocks: u32,
    /// Blocks that hold nothing.
    pub free_blocks: u32,
    /// Inodes in all.
    pub inodes: u32,
    /// Inodes that are not in use.
    pub free_inodes: u32,
    /// Directories, the root and `lost+found` among them.
    pub directories: u32,
}
