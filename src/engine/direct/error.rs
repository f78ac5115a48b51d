//! Why the direct engine stops.

use std::io;
use std::path::Path;

use crate::engine::checkpoint::CheckpointError;
use crate::engine::left_file;
use crate::path_error::PathError;
use crate::source::branch_reader;
use crate::thin;

/// Why the direct engine stops.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of a branch cannot be read, or has changed since the plan was made.
    #[error(transparent)]
    Source(#[from] branch_reader::Error),
    /// A file of the pool cannot be written.
    #[error(transparent)]
    Target(#[from] PathError),
    /// A file that an earlier run left cannot be used.
    #[error(transparent)]
    LeftFile(#[from] left_file::Error),
    /// The progress of the run cannot be recorded.
    #[error(transparent)]
    NotNoted(#[from] CheckpointError),
    /// The pool's metadata cannot be encoded.
    #[error("thin pool metadata")]
    Thin(#[source] thin::Error),
    /// The threads cannot be started.
    #[error("cannot start {jobs} threads")]
    Threads {
        /// The number of threads.
        jobs: usize,
        /// The cause.
        source: rayon::ThreadPoolBuildError,
    },
    /// The run was stopped on request.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    pub(super) fn target(path: &Path, op: &'static str, source: io::Error) -> Self {
        PathError::on(path, op)(source).into()
    }
}
