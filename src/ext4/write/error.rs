//! Why a file system cannot be planned.

use crate::tree::escape;

/// Why [`Image::format`](super::image::Image::format) or a [`Draft`](super::draft::Draft) refuses. The image stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An entry that ext4 cannot hold as it is; nothing but a change of the source helps.
    #[error("{path}")]
    Entry {
        /// The entry's path in its layer, escaped.
        path: String,
        /// What is wrong with it.
        source: Problem,
    },
    /// The file system is too small for what the layer brings.
    #[error(
        "file system is full: the layer needs {needed} blocks of 4 KiB, but {available} are free in contiguous 64 KiB \
         pieces"
    )]
    NoSpace {
        /// Blocks of 4 KiB the layer takes.
        needed: u64,
        /// Blocks of 4 KiB in pieces of 64 KiB that hold nothing.
        available: u64,
    },
    /// All inodes are in use.
    #[error("file system has no free inode: all {inodes} are in use")]
    NoInodes {
        /// Inodes of the file system.
        inodes: u32,
    },
    /// The size cannot be made into a file system.
    #[error("file system of {blocks} blocks of 4 KiB: too small for its own tables and journal")]
    TooSmall {
        /// The size asked for, in blocks of 4 KiB.
        blocks: u32,
    },
    /// More inodes than 32 bits count, or groups that cannot hold their own tables.
    #[error(
        "file system of {blocks} blocks of 4 KiB with {inodes_per_group} inodes per group: beyond what ext4 can number"
    )]
    TooLarge {
        /// The size asked for, in blocks of 4 KiB.
        blocks: u32,
        /// Inodes per group asked for.
        inodes_per_group: u32,
    },
    /// `inodes_per_group` is no multiple of 256 between 256 and 32768.
    #[error("{inodes_per_group} inodes per group: not a multiple of 256 from 256 to 32768")]
    InodesPerGroup {
        /// The number asked for.
        inodes_per_group: u32,
    },
    /// A draft takes one layer, because its data runs name the layer's nodes.
    #[error("draft already contains a layer")]
    SecondLayer,
}

impl Problem {
    /// Whether the limit is that of ext4, so that a file system with higher ones may hold the entry.
    pub fn is_of_ext4(&self) -> bool {
        matches!(
            self,
            Self::Links | Self::DirectoryFull | Self::FileSize { .. } | Self::XattrsTooLarge { .. }
        )
    }
}

/// What is wrong with one entry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A time outside of what an inode stores.
    #[error("time of {seconds} s since 1970 is outside 1901 to 2446")]
    Time {
        /// Seconds since 1970.
        seconds: i64,
    },
    /// More names than ext4 counts.
    #[error("more than 65000 hard links")]
    Links,
    /// A directory with more names than two index levels reach.
    #[error("directory has too many names")]
    DirectoryFull,
    /// One directory under two names, or below itself.
    #[error("directory has more than one name")]
    LinkedDirectory,
    /// A small file's name is a directory's already.
    #[error("a directory with this name already exists")]
    IsDirectory,
    /// A name that no directory can hold.
    #[error(
        "name {} is empty, reserved, longer than 255 bytes or contains NUL or a slash",
        escape(name)
    )]
    Name {
        /// The name.
        name: Box<[u8]>,
    },
    /// A symbolic link's target is empty, too long or holds NUL.
    #[error("symbolic link target of {bytes} bytes: must be 1 to 4095 bytes without NUL")]
    Target {
        /// Its length.
        bytes: usize,
    },
    /// A device number beyond 12 bits of major and 20 bits of minor.
    #[error("device number {major}:{minor} is out of range")]
    Device {
        /// The driver.
        major: u32,
        /// The unit.
        minor: u32,
    },
    /// A file longer than 2^32 blocks.
    #[error("file of {bytes} bytes is larger than ext4 allows")]
    FileSize {
        /// Its length.
        bytes: u64,
    },
    /// Data runs that overlap, do not ascend or reach beyond the file's end.
    #[error("data runs are out of order or outside the file")]
    Segments,
    /// A small file's content does not fit one block.
    #[error("content of {bytes} bytes exceeds 4096")]
    Content {
        /// Its length.
        bytes: usize,
    },
    /// Extended attributes that do not fit one block.
    #[error("extended attributes take {bytes} bytes, but ext4 stores at most 4096")]
    XattrsTooLarge {
        /// The bytes they would take.
        bytes: usize,
    },
    /// An extended attribute's name that ext4 has no number for.
    #[error("extended attribute {}: ext4 cannot store this name", escape(name))]
    XattrName {
        /// The full name.
        name: Box<[u8]>,
    },
    /// An ACL that is not in the form `getxattr` returns.
    #[error("extended attribute {}: malformed access control list", escape(name))]
    Acl {
        /// The full name.
        name: Box<[u8]>,
    },
}
