//! Why the direct engine stops.

use std::io;
use std::path::{Path, PathBuf};

use crate::docker::CacheId;
use crate::thin;

/// Why the direct engine stops.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of a branch cannot be read.
    #[error("layer {layer}: {path}: cannot {op}")]
    Source {
        /// The layer.
        layer: CacheId,
        /// The file within the branch, escaped.
        path: String,
        /// What was tried.
        op: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file of a branch is not what it was when the plan was made.
    #[error(
        "layer {layer}: {path}: {what} changed while the layer was converted; is something still using the branch?"
    )]
    Changed {
        /// The layer.
        layer: CacheId,
        /// The file within the branch, escaped.
        path: String,
        /// What differs: `its size`, `its type`, …
        what: &'static str,
    },
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
