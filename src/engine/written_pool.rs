//! What an engine wrote.

use std::fmt;

use uuid::Uuid;

use super::error::Error;
use crate::crc64::crc64;
use crate::units::{Bytes, MetaBlocks};

/// A pool that was written. Everything in it is durable.
#[derive(Debug)]
pub struct WrittenPool {
    /// UUID of the base device's file system.
    pub base_uuid: Uuid,
    /// Space that the devices occupy in the pool.
    pub data_bytes: Bytes,
    /// Space that the pool's metadata occupies.
    pub metadata_blocks: MetaBlocks,
    /// Checksums of what was written, if the engine was asked for them and can compute them.
    pub runs: Option<Vec<WrittenRun>>,
    /// The part that is outside the staging directory.
    pub outside: Option<Box<dyn Outside>>,
}

/// What was written outside the staging directory.
pub trait Outside: fmt::Debug + Send + Sync {
    /// Removes it, and the record that describes it.
    ///
    /// # Errors
    ///
    /// Why it cannot be removed; the record stays.
    fn take_back(self: Box<Self>) -> Result<(), Error>;
}

/// File data that was written to the data file without a gap: a file's bytes, or some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenRun {
    /// Its offset in the data file, in bytes.
    pub offset: u64,
    /// The number of bytes of the file; the zeros that fill its last block are not counted.
    pub bytes: u64,
    /// The checksum of these bytes, see [`crate::crc64`].
    pub crc64: u64,
}

impl WrittenRun {
    pub(super) fn new(offset: u64, bytes: &[u8]) -> Self {
        Self {
            offset,
            bytes: bytes.len() as u64,
            crc64: crc64(bytes),
        }
    }

    /// The same run, moved by `by` bytes.
    pub(super) fn behind(self, by: u64) -> Self {
        Self {
            offset: by + self.offset,
            ..self
        }
    }
}
