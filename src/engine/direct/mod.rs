//! The direct engine: writes the pool's two files itself, without device-mapper and without mounts.
//!
//! Every layer's clusters have their place in the data file before the first is written, so layers need not wait for
//! their parents: the data file is cut into units of a few MiB, and threads take one after the other, gather it in
//! memory (file data read from the branch, file system metadata encoded from the plan), and write it with one call.
//! The pool's metadata follows once the data is durable, its superblock last: until then a kernel takes the pool as
//! unformatted, and a crash costs nothing but the run.

pub(crate) mod buffer;
mod data;
mod error;
mod metadata;
mod reflink;

use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub use error::Error;

use super::progress::{Cancel, Phase, Progress};
use crate::plan::Layout;

/// How the engine works; what it writes depends on the layout alone.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that read and write. More than there are cores: on a cold disk most of them wait.
    pub jobs: NonZeroUsize,
    /// Set to stop the run early.
    pub cancel: Cancel,
}

/// The pool's files.
#[derive(Clone, Debug)]
pub struct Target {
    /// The data file, to be created.
    pub data: PathBuf,
    /// The metadata file, to be created.
    pub metadata: PathBuf,
}

/// Writes the pool of `layout` to new files. Both are durable on return.
///
/// # Errors
///
/// [`Error::Source`] names a file of a branch, [`Error::Target`] a file of the pool,
/// [`Error::Interrupted`] says that [`Options::cancel`] was set. What was written until then is worthless.
pub fn write(
    layout: &Layout,
    target: &Target,
    options: &Options,
    progress: &dyn Progress,
) -> Result<(), Error> {
    progress.start(Phase::Data, layout.data_bytes().0);
    data::write(layout, &target.data, options, progress)?;
    progress.finish();
    progress.start(Phase::Metadata, 0);
    metadata::write(layout, &target.metadata)?;
    progress.finish();
    Ok(())
}

/// Creates a file of the pool, which must not exist, readable by root alone as Docker has it.
fn create(path: &Path, size: u64) -> Result<File, Error> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| Error::target(path, "create", source))?;
    file.set_len(size)
        .map_err(|source| Error::target(path, "set the size of", source))?;
    Ok(file)
}
