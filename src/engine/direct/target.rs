//! The input and the output of the engine.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::crc64::crc64;
use crate::engine::checkpoint::Checkpoints;
use crate::progress::Cancel;

/// How the engine works. What it writes depends only on the layout.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The number of threads that read and write. It should exceed the number of cores: on a cold disk most threads
    /// wait.
    pub jobs: NonZeroUsize,
    /// Set to stop the run early.
    pub cancel: Cancel,
    /// Where the run starts, and where it records its progress.
    pub checkpoints: Checkpoints<'a>,
    /// Whether to compute the checksums of what is written.
    pub checksums: bool,
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

/// The pool's files.
#[derive(Clone, Debug)]
pub struct Target {
    /// The data file.
    pub data: PathBuf,
    /// The metadata file.
    pub metadata: PathBuf,
}
