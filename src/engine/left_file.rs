//! Reuses or removes a pool's files that an earlier run left.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::path_error::PathError;

/// Why a file that an earlier run left cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] PathError),
    /// It is no longer the file that was left. It was not changed.
    #[error("{}: {what}; this is not the file that an earlier run left to resume from", path.display())]
    Strange {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// Opens the file for reading and writing, and checks that it can be the one that was left: no symbolic link led there,
/// it is ours, and it still has its size.
pub(super) fn reopen(path: &Path, size: u64) -> Result<File, Error> {
    // O_NONBLOCK: if a fifo has taken the file's place, opening it must not block.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(PathError::on(path, "open"))?;
    let meta = file.metadata().map_err(PathError::on(path, "stat"))?;
    let (user, owner) = (nix::unistd::geteuid().as_raw(), meta.uid());
    let what = if !meta.is_file() {
        "is not a regular file".to_owned()
    } else if owner != user {
        format!("belongs to user {owner}, not to user {user}")
    } else if meta.len() != size {
        format!("has {} bytes, not {size}", meta.len())
    } else {
        return Ok(file);
    };
    Err(Error::Strange {
        path: path.to_owned(),
        what,
    })
}
