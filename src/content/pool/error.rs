//! The reasons why a finished pool cannot be read.

use std::io;
use std::path::{Path, PathBuf};

use crate::path_error::PathError;
use crate::pool::DeviceError;
use crate::thin;
use crate::tree::shown;
use crate::units::Bytes;

/// The reason why a finished pool cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pool is active and cannot be read in its present state: something uses it, or it is suspended or read-only.
    #[error(transparent)]
    Active(#[from] DeviceError),
    /// A file or device cannot be used.
    #[error(transparent)]
    Io(#[from] PathError),
    /// Something else is where a file should be.
    #[error("{}: is not a regular file", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// A file of the pool is a link. Docker follows it, but its target may belong to another root.
    #[error("{}: is a symbolic link to {}", shown(path), shown(target))]
    Link {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// The metadata is damaged.
    #[error("{}", path.display())]
    Metadata {
        /// The file or device that holds it.
        path: PathBuf,
        /// The faulty block, and what is wrong with it.
        source: thin::Error,
    },
    /// The data device is shorter than the pool. The kernel does not activate such a pool.
    #[error("{}: has {} bytes, but the pool's metadata says {}", path.display(), size.0, needed.0)]
    DataTooSmall {
        /// The file or device.
        path: PathBuf,
        /// Its actual size.
        size: Bytes,
        /// The size that it should have.
        needed: Bytes,
    },
}

impl Error {
    pub(super) fn io(path: &Path, op: &'static str) -> impl FnOnce(io::Error) -> Self {
        let error = PathError::on(path, op);
        move |source| error(source).into()
    }
}
