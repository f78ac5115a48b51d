//! What is written where, and what comes back of it.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::crc64::crc64;
use crate::engine::checkpoint::Checkpoints;
use crate::progress::Cancel;

/// How the engine works; what it writes depends on the layout alone.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// Threads that read and write. More than there are cores: on a cold disk most of them wait.
    pub jobs: NonZeroUsize,
    /// Set to stop the run early.
    pub cancel: Cancel,
    /// Where the run begins, and whom it tells how far it came.
    pub checkpoints: Checkpoints<'a>,
    /// Whether the checksums of what is written are computed.
    pub checksums: bool,
}

/// File data that was written to the data file without a gap: a file's bytes, or a part of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenRun {
    /// Where in the data file it begins, in bytes.
    pub offset: u64,
    /// How many bytes of the file it is; the zeros that fill its last block are not counted.
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

    /// The same, `by` bytes further on.
    pub(super) fn behind(self, by: u64) -> Self {
        Self {
            offset: by + self.offset,
            ..self
        }
    }
}

/// The pool's files.
#[derive(Clone, Debug)]
pub struct Target {
    /// The data file.
    pub data: PathBuf,
    /// The metadata file.
    pub metadata: PathBuf,
}
