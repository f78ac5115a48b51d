//! What can be wrong with one object of a root.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::files::{FileKind, ReadError};
use super::id::{CacheId, ChainId, IdError};
use super::json::JsonError;
use crate::tree::shown;

/// What can be wrong with one object of a root.
#[derive(Debug, Error)]
pub enum Fault {
    /// The object cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file of zero bytes where content is required. A power cut leaves this of a file that was just written.
    #[error("{}: is empty", shown(path))]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A required file or directory does not exist.
    #[error("{}: is missing", shown(path))]
    Missing {
        /// The file or directory.
        path: PathBuf,
    },
    /// A file's text is not the id that it should hold.
    #[error("{}: {:?}", shown(path), value)]
    BadId {
        /// The file.
        path: PathBuf,
        /// The beginning of its text, escaped.
        value: String,
        /// What is wrong with it.
        source: IdError,
    },
    /// A layer has no `tar-split.json.gz`, or an empty one: the layer works, but its tar cannot be made again.
    #[error("{}: is empty, so docker save and push fail for it", shown(path))]
    NoTarSplit {
        /// The file.
        path: PathBuf,
    },
    /// A name whose image id is not an id. Docker ignores the name.
    #[error(
        "{}: the name {name:?} refers to {value:?}, which is not an image id",
        shown(path)
    )]
    BadReference {
        /// The file of image names.
        path: PathBuf,
        /// The name.
        name: String,
        /// The text in the place of the id.
        value: String,
    },
    /// A JSON file that Docker cannot read either.
    #[error("{}", shown(path))]
    BadJson {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: JsonError,
    },
    /// A `size` that is not a number.
    #[error("{}: is not a number", shown(path))]
    BadNumber {
        /// The file.
        path: PathBuf,
    },
    /// An entry among the parent lists that is not a regular file, or one among the branches that is not a directory.
    #[error("{}: is a {found}", shown(path))]
    WrongKind {
        /// The entry.
        path: PathBuf,
        /// Its kind.
        found: FileKind,
    },
    /// The name of a layer's directory is not the chain id that its `diff` and `parent` make.
    #[error("{}: its diff and parent yield {computed}", shown(path))]
    ChainMismatch {
        /// The layer's directory.
        path: PathBuf,
        /// The chain id they make.
        computed: ChainId,
    },
    /// A layer's parent is not in the layer store.
    #[error("{}: layer {parent} is missing", shown(path))]
    ParentChainMissing {
        /// The file that names the parent.
        path: PathBuf,
        /// The parent's chain id.
        parent: ChainId,
    },
    /// Docker's stores name an aufs layer that aufs does not have.
    #[error("{}: aufs layer {id} is missing", shown(path))]
    NotInAufs {
        /// The file that names the layer.
        path: PathBuf,
        /// The layer.
        id: CacheId,
    },
    /// A layer has no branch directory.
    #[error("{}: the branch directory is missing", shown(path))]
    BranchMissing {
        /// The directory.
        path: PathBuf,
    },
    /// The first line of a parent list names a layer that aufs does not have.
    #[error("{}: parent {parent} is missing", shown(path))]
    ParentMissing {
        /// The parent list.
        path: PathBuf,
        /// The parent.
        parent: CacheId,
    },
    /// A layer is its own ancestor.
    #[error("{}: its parents lead back to itself", shown(path))]
    ParentCycle {
        /// The parent list.
        path: PathBuf,
    },
    /// A parent list lacks the last ancestors.
    #[error("{}: is cut off after {lines} of {ancestors} lines", shown(path))]
    ParentListCut {
        /// The parent list.
        path: PathBuf,
        /// The number of its valid lines.
        lines: usize,
        /// The number of the layer's ancestors according to Docker's stores.
        ancestors: usize,
    },
    /// A parent list is not its parent followed by that parent's own list.
    #[error("{}: does not continue with the list of parent {parent}", shown(path))]
    ParentListMismatch {
        /// The parent list.
        path: PathBuf,
        /// The parent.
        parent: CacheId,
    },
    /// The parent of a layer in aufs is not the one that Docker's stores name.
    #[error("{}: is based on {}, not on {}", shown(path), BranchName(found.as_ref()), BranchName(expected.as_ref()))]
    ParentDiffers {
        /// The parent list.
        path: PathBuf,
        /// The parent in the list.
        found: Option<CacheId>,
        /// The parent according to Docker's stores.
        expected: Option<CacheId>,
    },
}

impl Fault {
    /// The file or directory that has the fault.
    pub fn path(&self) -> &Path {
        match self {
            Self::Read(error) => error.path(),
            Self::Empty { path }
            | Self::Missing { path }
            | Self::BadId { path, .. }
            | Self::NoTarSplit { path }
            | Self::BadReference { path, .. }
            | Self::BadJson { path, .. }
            | Self::BadNumber { path }
            | Self::WrongKind { path, .. }
            | Self::ChainMismatch { path, .. }
            | Self::ParentChainMissing { path, .. }
            | Self::NotInAufs { path, .. }
            | Self::BranchMissing { path }
            | Self::ParentMissing { path, .. }
            | Self::ParentCycle { path }
            | Self::ParentListCut { path, .. }
            | Self::ParentListMismatch { path, .. }
            | Self::ParentDiffers { path, .. } => path,
        }
    }
}

struct BranchName<'a>(Option<&'a CacheId>);

impl fmt::Display for BranchName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => id.fmt(f),
            None => f.write_str("nothing"),
        }
    }
}
