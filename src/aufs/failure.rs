//! An error with one file of a branch, before its path is put together.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

use super::error::Error;

/// Why a file cannot be read.
#[derive(Debug)]
pub(super) enum Failure {
    Changed,
    BadTarget { length: usize },
    BadType { mode: u32 },
    Io { op: &'static str, source: io::Error },
}

impl Failure {
    /// The failure for a file that existed a moment ago: that it is gone says more than ENOENT does.
    pub(super) fn io(op: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Changed,
            _ => Self::Io { op, source },
        }
    }

    pub(super) fn errno(op: &'static str, errno: Errno) -> Self {
        Self::io(op, errno.into())
    }

    /// The error for the file at `path`.
    pub(super) fn of(self, path: PathBuf) -> Error {
        match self {
            Self::Changed => Error::Changed { path },
            Self::BadTarget { length } => Error::BadTarget { path, length },
            Self::BadType { mode } => Error::BadType { path, mode },
            Self::Io { op, source } => Error::Io { op, path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vanished_file_is_a_change_and_not_an_io_error() {
        assert!(matches!(
            Failure::errno("stat", Errno::ENOENT),
            Failure::Changed
        ));
        let failure = Failure::errno("stat", Errno::EIO);
        assert!(matches!(failure, Failure::Io { op: "stat", .. }));
    }
}
