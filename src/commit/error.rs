//! Why staging or moving in place fails.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::units::Bytes;

/// Why staging or moving in place fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory cannot be read or written.
    #[error("{path}: cannot {op}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        op: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The file system with the Docker root is too full.
    #[error("{path}: the conversion writes {needed}, and {free} are free")]
    Space {
        /// The Docker root.
        path: PathBuf,
        /// What will be written.
        needed: Bytes,
        /// What there is.
        free: Bytes,
    },
    /// An earlier run was stopped between two renames.
    #[error(
        "{stage}: an earlier run was stopped while it moved its result in place; aufs/ and image/aufs are as they were; \
         unless Docker has run since, go back by: {state}"
    )]
    HalfSwitched {
        /// Its staging directory.
        stage: PathBuf,
        /// Shell commands that take back what it had moved.
        state: String,
    },
    /// Another run works on the root.
    #[error("{path}: another aufs2dm is at work")]
    Busy {
        /// The Docker root.
        path: PathBuf,
    },
    /// Something stands where the result belongs.
    #[error("{path}: already exists")]
    Exists {
        /// What stands there.
        path: PathBuf,
    },
    /// A step failed, and so did taking back the ones before it.
    #[error("{state}")]
    RollbackFailed {
        /// Why the move failed.
        #[source]
        cause: Box<Error>,
        /// What could not be taken back.
        state: RollbackState,
    },
}

impl Error {
    pub(super) fn io(path: &Path, op: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            path: path.to_owned(),
            op,
            source,
        }
    }
}

/// What a failed undo left: one message for each step, with the command that mends it.
#[derive(Debug)]
pub struct RollbackState(pub(super) Vec<String>);

impl fmt::Display for RollbackState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the move in place failed and could not be undone by itself; by hand: {}",
            self.0.join(" && ")
        )
    }
}
