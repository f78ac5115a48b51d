//! Reading a root without a trace.

use std::path::{Path, PathBuf};

use crate::sys;

/// Not even the access times of what is read should change.
pub(super) fn keep_access_times(root: &Path) {
    // What is no directory is told by whoever opens it. A file system of its own for `aufs` needs its own mount.
    let real = |path: PathBuf| path.canonicalize().ok().filter(|path| path.is_dir());
    let Some(root) = real(root.to_owned()) else {
        return;
    };
    let aufs = real(root.join("aufs"));
    let paths: Vec<_> = [root].into_iter().chain(aufs).collect();
    if let Err(errno) = sys::without_access_times(&paths) {
        log::debug!("{}: access times may change: {errno}", paths[0].display());
    }
}
