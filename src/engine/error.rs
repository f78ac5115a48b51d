//! Why an engine stopped, as far as the rest of a conversion needs to know.

use std::error::Error as Cause;
use std::fmt;

/// Why an engine stopped. It shows as its cause does.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    cause: Box<dyn Cause + Send + Sync>,
}

/// The kinds of errors that the rest of a conversion treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The run was stopped on request.
    Interrupted,
    /// A resumed run could not start. What the earlier run wrote was not changed.
    NotResumed,
    /// A layer cannot be written to its device's file system.
    FileSystem,
    /// Anything else.
    Other,
}

impl Error {
    /// An engine's own error.
    pub fn new(kind: ErrorKind, cause: impl Cause + Send + Sync + 'static) -> Self {
        Self {
            kind,
            cause: Box::new(cause),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl Cause for Error {
    fn source(&self) -> Option<&(dyn Cause + 'static)> {
        self.cause.source()
    }
}
