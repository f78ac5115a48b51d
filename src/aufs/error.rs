//! Why a branch cannot be read.

use std::io;
use std::path::PathBuf;

use crate::tar_split;
use crate::tree::shown;

/// Why a branch was not read. Every path is that of the file itself, so that the operator can look at it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no branch at that path.
    #[error("{}: no such branch", shown(path))]
    NoBranch {
        /// The branch.
        path: PathBuf,
    },
    /// The branch is not a directory; a symbolic link to one is not followed.
    #[error("{}: branch is not a directory", shown(path))]
    NotADirectory {
        /// The branch.
        path: PathBuf,
    },
    /// A file changed or vanished while the branch was read. Docker or something else is using it: stop it and try
    /// again.
    #[error("{}: changed while it was read", shown(path))]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The caller stopped the reading.
    #[error("reading was stopped")]
    Stopped,
    /// Another file system is mounted inside the branch.
    #[error("{}: another file system is mounted here", shown(path))]
    OtherFileSystem {
        /// The mount point.
        path: PathBuf,
    },
    /// A symbolic link whose target is empty or too long to be stored.
    #[error(
        "{}: symbolic link target is empty or too long ({length} bytes)",
        shown(path)
    )]
    BadTarget {
        /// The link.
        path: PathBuf,
        /// The length of its target in bytes.
        length: usize,
    },
    /// A file of a type that Linux does not have.
    #[error("{}: file type {mode:#o} is unknown", shown(path))]
    BadType {
        /// The file.
        path: PathBuf,
        /// Its `st_mode`.
        mode: u32,
    },
    /// The layer's tar-split is unusable, but it is needed to find out whether a name or its whiteout came last.
    #[error("{}", shown(path))]
    TarSplit {
        /// The tar-split file.
        path: PathBuf,
        /// What is wrong with it.
        source: tar_split::Error,
    },
    /// The operating system refused.
    #[error("{}: cannot {op}", shown(path))]
    Io {
        /// The operation that failed.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_message_names_the_object_first_and_escapes_it() {
        let path = PathBuf::from(OsStr::from_bytes(b"/diff/a/\xff"));
        let error = Error::BadTarget { path, length: 0 };
        assert_eq!(
            error.to_string(),
            "/diff/a/\\xff: symbolic link target is empty or too long (0 bytes)"
        );
    }
}
