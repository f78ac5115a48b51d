//! The direct engine: writes the pool's two files itself, without device-mapper and without mounts.
//!
//! Every layer's clusters have their place in the data file before the first is written, so layers need not wait for
//! their parents: the data file is cut into units of a few MiB, and threads take one after the other, gather it in
//! memory (file data read from the branch, file system metadata encoded from the plan), and write it with one call.
//! The pool's metadata follows once the data is durable, its superblock last: until then a kernel takes the pool as
//! unformatted. What a crash leaves, and what a later run makes of it: `data`.

use super::error::Error;
use super::target::{Options, Target, WrittenRun};
use super::{data, metadata};
use crate::engine::left_file;
use crate::plan::Layout;
use crate::progress::{Phase, Progress};

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
