//! Applies a layer to a mounted file system that holds the merged tree of the layers below.
//!
//! There are four steps, each done by many threads before the next begins: directories are made, and what the layer
//! removes is deleted (`directories`); files are made, each one completely (`entries`, `large`); further names of files
//! (`links`); and the attributes of the directories that were not complete before (`attributes`). A directory's times
//! are right only once nothing in it changes any more, and its default ACL and setgid bit would be passed on to what is
//! made in it.
//!
//! The work is cut into units of some hundred small files (`outline`). Each unit goes from directory to directory by
//! itself, so the number of open files depends on the number of threads and not on the tree. Nothing is written to an
//! inode that the layers below share: what a layer replaces is removed, and made anew.
//!
//! The caller must ensure that nothing else changes the target meanwhile.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::directories::Directories;
use super::error::{Error, failed};
use super::outline::{self, Outline};
use super::workers::Workers;
use super::{entries, links, sync};
use crate::progress::{Cancel, Progress};
use crate::source::Layer;
use crate::tree::LayerTree;

/// The maximum number of files that each thread of the pool has open, with some to spare.
pub const DESCRIPTORS_PER_THREAD: usize = 16;

/// The options for applying a layer.
#[derive(Clone, Copy)]
pub struct ApplyOptions<'a> {
    /// The threads. They may apply several layers at once.
    pub pool: &'a rayon::ThreadPool,
    /// Checked before every file and every few hundred KiB.
    pub cancel: &'a Cancel,
    /// Counts the bytes of files, [`data_bytes`] in total.
    pub progress: &'a dyn Progress,
}

impl std::fmt::Debug for ApplyOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApplyOptions")
            .field("pool", &self.pool)
            .field("cancel", &self.cancel)
            .finish_non_exhaustive()
    }
}

/// The bytes of all files of a layer, without holes.
pub fn data_bytes(tree: &LayerTree) -> u64 {
    let files = tree.nodes().filter_map(|(id, _)| tree.regular(id));
    files
        .flat_map(outline::data)
        .map(|data| data.end - data.start)
        .sum()
}

/// Applies a layer to the directory `rootfs`, which holds the merged tree of the layers below, or nothing.
///
/// The caller must not be a thread of the pool. On return, the result is in the page cache: it is durable after a sync
/// of the file system, see [`sync_files`].
///
/// # Errors
///
/// [`Error::Source`] for a file of the branch, [`Error::Target`] and [`Error::Time`] for a file that the new file
/// system does not accept, [`Error::Interrupted`] if [`ApplyOptions::cancel`] was set. The target is then worthless.
pub fn apply(layer: &Layer, rootfs: impl AsFd, run: &ApplyOptions<'_>) -> Result<(), Error> {
    let crew = Workers::new(layer, open_root(layer, rootfs)?, run);
    let directories = Directories::new(layer)?;
    let outline = Outline::new(layer, &directories);
    directories.make(&crew)?;
    entries::make(&crew, &directories, &outline)?;
    links::make(&crew, &directories, &outline)?;
    directories.finish(&crew, &outline)
}

/// Writes every file of an applied layer to the disk.
///
/// Before 5.8, the kernel does not report to a sync of the file system that a file could not be written, but it does to
/// a sync of the file. After a sync of the file system, this costs little.
///
/// # Errors
///
/// [`Error::Target`] with the file, [`Error::Interrupted`] if [`ApplyOptions::cancel`] was set.
pub fn sync_files(layer: &Layer, rootfs: impl AsFd, run: &ApplyOptions<'_>) -> Result<(), Error> {
    let crew = Workers::new(layer, open_root(layer, rootfs)?, run);
    let directories = Directories::new(layer)?;
    let outline = Outline::new(layer, &directories);
    sync::files(&crew, &directories, &outline)
}

/// Opens the directory again in the mode that is needed here, however the caller opened it.
fn open_root(layer: &Layer, rootfs: impl AsFd) -> Result<Arc<File>, Error> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    match openat(rootfs, ".", flags, Mode::empty()) {
        Ok(root) => Ok(Arc::new(root.into())),
        Err(errno) => Err(failed("open")(errno).of(layer, LayerTree::ROOT)),
    }
}
