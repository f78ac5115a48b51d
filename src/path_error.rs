//! A file operation that the system refused.

use std::io;
use std::path::{Path, PathBuf};

use crate::tree::shown;

/// The operation, its object and the cause.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot {op}", shown(path))]
pub struct PathError {
    /// The file, directory or device.
    pub path: PathBuf,
    /// The operation.
    pub op: &'static str,
    /// The cause.
    pub source: io::Error,
}

impl PathError {
    /// Turns the cause of a failed operation into the error.
    pub fn on(path: &Path, op: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { path, op, source }
    }
}
