//! Why the direct engine stops.

use std::io;
use std::path::{Path, PathBuf};

use crate::engine::checkpoint::CheckpointError;
use crate::engine::left_file;
use crate::source::branch_reader;
use crate::thin;

/// Why the direct engine stops.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of a branch cannot be read, or is not what it was when the plan was made.
    #[error(transparent)]
    Source(#[from] branch_reader::Error),
    /// A file of the pool cannot be written.
    #[error("{path}: cannot {op}")]
    Target {
        /// The file.
        path: PathBuf,
        /// What was tried.
        op: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file that an earlier run left cannot be used.
    #[error(transparent)]
    LeftFile(#[from] left_file::Error),
    /// It cannot be noted how far the run came.
    #[error(transparent)]
    NotNoted(#[from] CheckpointError),
    /// The pool's metadata cannot be encoded.
    #[error("thin pool metadata")]
    Thin(#[source] thin::Error),
    /// The threads cannot be started.
    #[error("{jobs} threads")]
    Threads {
        /// How many.
        jobs: usize,
        /// What rayon said.
        source: rayon::ThreadPoolBuildError,
    },
    /// The run was told to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    pub(super) fn target(path: &Path, op: &'static str, source: io::Error) -> Self {
        Self::Target {
            path: path.to_owned(),
            op,
            source,
        }
    }
}
