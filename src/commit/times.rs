//! Times of directories whose entries the conversion moves: moving the entries back does not restore them.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};

/// A directory's access and modification times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// The directory, relative to the Docker root; empty for the root itself.
    pub path: String,
    /// Seconds and nanoseconds.
    pub accessed: (i64, i64),
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
}

impl Times {
    /// The times of a directory in `root`.
    pub(super) fn of(root: &Path, path: &str) -> io::Result<Self> {
        let meta = root.join(path).symlink_metadata()?;
        Ok(Self {
            path: path.to_owned(),
            accessed: (meta.atime(), meta.atime_nsec()),
            modified: (meta.mtime(), meta.mtime_nsec()),
        })
    }

    /// Restores the times. A directory that Docker has removed meanwhile is ignored.
    pub(super) fn put_back(&self, root: &Path) {
        let path = root.join(&self.path);
        let [accessed, modified] =
            [self.accessed, self.modified].map(|(sec, nsec)| TimeSpec::new(sec, nsec));
        let flags = UtimensatFlags::NoFollowSymlink;
        if let Err(errno) = utimensat(AT_FDCWD, &path, &accessed, &modified, flags) {
            log::debug!("{}: cannot restore its times: {errno}", path.display());
        }
    }
}
