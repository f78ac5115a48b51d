//! Why there is nothing to check.

use std::io;

/// Why a device cannot be read as a file system at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device does not give its bytes.
    #[error("cannot read {bytes} bytes at byte {offset}")]
    Io {
        /// Where.
        offset: u64,
        /// How many.
        bytes: usize,
        /// What it said.
        source: io::Error,
    },
    /// There is no ext2, ext3 or ext4 superblock.
    #[error("superblock: not an ext4 file system (magic number {found:#06x})")]
    NotExt4 {
        /// What stands where the magic number belongs.
        found: u16,
    },
    /// A number in the superblock from which no file system follows.
    #[error("superblock: {field} of {value} is not possible")]
    Superblock {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The superblock's checksum is wrong, so that nothing in it can be relied on.
    #[error("superblock: checksum is {found:#010x}, not {expected:#010x}")]
    Checksum {
        /// What it says.
        found: u32,
        /// What its bytes give.
        expected: u32,
    },
    /// Features that are not read here.
    #[error("superblock: unsupported features: {names}")]
    Unsupported {
        /// Their names, with spaces between.
        names: String,
    },
    /// The device ends before the file system does.
    #[error("superblock: {blocks} blocks of {block_bytes} bytes reach beyond the device's end")]
    Short {
        /// Blocks that the superblock counts.
        blocks: u64,
        /// Bytes of one.
        block_bytes: u32,
    },
}
