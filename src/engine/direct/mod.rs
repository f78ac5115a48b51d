//! The direct engine: writes the pool's two files itself, without device-mapper and without mounts.
//!
//! Every layer's clusters have their place in the data file before the first is written, so layers need not wait for
//! their parents: the data file is cut into units of a few MiB, and threads take one after the other, gather it in
//! memory (file data read from the branch, file system metadata encoded from the plan), and write it with one call.
//! The pool's metadata follows once the data is durable, its superblock last: until then a kernel takes the pool as
//! unformatted. What a crash leaves, and what a later run makes of it: `data`.

mod data;
mod error;
mod file;
mod gather;
mod metadata;
mod reflink;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::checkpoint::Checkpoints;
use super::left_file;
use crate::crc64::crc64;
use crate::plan::Layout;
use crate::progress::{Cancel, Phase, Progress};

pub use error::Error;

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
    fn new(offset: u64, bytes: &[u8]) -> Self {
        Self {
            offset,
            bytes: bytes.len() as u64,
            crc64: crc64(bytes),
        }
    }

    /// The same, `by` bytes further on.
    fn behind(self, by: u64) -> Self {
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

/// Writes the pool of `layout` to new files. Both are durable on return; whether their directory is, the caller sees to.
///
/// A resumed run goes on with the data file that is there, if any device was durable; else, as with the metadata file
/// always, what is there is replaced.
///
/// # Returns
///
/// With [`Options::checksums`], all file data that was written, in the order of the data file, but for what is shared with
/// the branches (reflink) and what earlier runs wrote.
///
/// # Errors
///
/// [`Error::Source`] names a file of a branch, [`Error::Target`] a file of the pool, [`Error::LeftFile`] one that
/// cannot be an earlier run's, [`Error::Interrupted`] says that [`Options::cancel`] was set. The devices that were complete until then
/// were told to be durable, if that was possible.
pub fn write(
    layout: &Layout,
    target: &Target,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Vec<WrittenRun>, Error> {
    progress.start(Phase::Data, layout.data_bytes().0);
    let written = data::write(layout, &target.data, options, progress)?;
    progress.finish();
    progress.start(Phase::Metadata, 0);
    if options.checkpoints.done.is_some() {
        left_file::remove(&target.metadata)?;
    }
    metadata::write(layout, &target.metadata)?;
    progress.finish();
    Ok(written)
}
