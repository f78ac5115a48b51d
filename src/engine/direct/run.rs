//! The direct engine: writes the pool's two files itself, without device-mapper and without mounts.
//!
//! Every layer's clusters have their place in the data file before the first one is written, so layers need not wait
//! for their parents. The data file is cut into units of a few MiB. Threads take one unit after the other, gather it in
//! memory (file data read from the branch, file system metadata encoded from the plan), and write it with one call. The
//! pool's metadata follows once the data is durable, its superblock last: until then a kernel takes the pool as
//! unformatted. What a crash leaves, and how a later run continues from it: see `data`.

use super::error::Error;
use super::target::Target;
use super::{data, metadata};
use crate::durable::remove_if_any;
use crate::engine::{Options, WrittenRun};
use crate::plan::Layout;
use crate::progress::{Phase, Progress};

/// Writes the pool of `layout` to new files. Both are durable on return; the caller must make their directory durable.
///
/// A resumed run continues with the existing data file if any device was durable. Otherwise the existing data file is
/// replaced, and the metadata file always is.
///
/// # Returns
///
/// With [`Options::checksums`], all file data that was written, in the order of the data file, except what is shared
/// with the branches (reflink) and what earlier runs wrote.
///
/// # Errors
///
/// [`Error::Source`] for a file of a branch, [`Error::Target`] for a file of the pool, [`Error::LeftFile`] for a file
/// that cannot be an earlier run's, [`Error::Interrupted`] if [`Options::cancel`] was set. If possible, the devices
/// that were complete by then were recorded as durable.
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
        remove_if_any(&target.metadata)?;
    }
    metadata::write(layout, &target.metadata)?;
    progress.finish();
    Ok(written)
}
