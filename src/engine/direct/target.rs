//! The engine's target.

use std::path::PathBuf;

/// The pool's files.
#[derive(Clone, Debug)]
pub struct Target {
    /// The data file.
    pub data: PathBuf,
    /// The metadata file.
    pub metadata: PathBuf,
}
