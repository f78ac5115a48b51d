//! The reasons why a layer's contents cannot be read to the end.

use std::io;
use std::path::PathBuf;

use crate::docker::ReadError;
use crate::source::SourceError;
use crate::{aufs, tar_split};

/// The reason why a layer cannot be verified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Halt {
    /// The whole verification was told to stop.
    #[error("interrupted")]
    Interrupted,
    /// The layer's tar-split is damaged.
    #[error("tar-split.json.gz")]
    TarSplit(#[from] tar_split::Error),
    /// A store's file cannot be opened.
    #[error(transparent)]
    Store(#[from] ReadError),
    /// A file's bytes cannot be read from the device.
    #[error("{path}: cannot be read from the device")]
    Device {
        /// The file within the layer, escaped.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the branch cannot be read, or changes while it is being read.
    #[error("in aufs")]
    Source(#[from] SourceError),
    /// The branch cannot be read.
    #[error("{}", .path.display())]
    Branch {
        /// The branch.
        path: PathBuf,
        /// What is wrong with it.
        source: aufs::Error,
    },
}
