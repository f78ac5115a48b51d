//! Exit codes, and how an error is told.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::{commit, convert, engine};

/// The process's exit code, documented in the README and in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// All was done.
    Done = 0,
    /// It failed, and the root is as it was.
    Failed = 1,
    /// The arguments make no sense.
    Usage = 2,
    /// It was told to stop, and the root is as it was.
    Interrupted = 4,
    /// It failed half-way and could not be undone.
    HalfWay = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Prints the error's chain on one line and gives the exit code for it.
pub(super) fn report(error: &anyhow::Error) -> Exit {
    if is_broken_pipe(error) {
        return Exit::Done;
    }
    // A closed stderr changes nothing about the exit code.
    let _ = writeln!(io::stderr(), "error: {error:#}");
    for hint in hints(error) {
        let _ = writeln!(io::stderr(), "hint: {hint}");
    }
    exit_of(error)
}

fn exit_of(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if matches!(cause.downcast_ref(), Some(convert::Error::Interrupted))
            || matches!(
                cause.downcast_ref(),
                Some(engine::direct::Error::Interrupted)
            )
        {
            return Exit::Interrupted;
        }
        if matches!(
            cause.downcast_ref(),
            Some(commit::Error::RollbackFailed { .. })
        ) {
            return Exit::HalfWay;
        }
    }
    Exit::Failed
}

/// `aufs2dm inspect | head`: nobody is left to tell.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io_error = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().map(io::Error::kind)
    };
    error.downcast_ref::<super::output::Closed>().is_some()
        && error
            .chain()
            .any(|cause| io_error(cause) == Some(io::ErrorKind::BrokenPipe))
}

/// What to do about it, where that does not go without saying.
fn hints(error: &anyhow::Error) -> Vec<&'static str> {
    let mut hints = Vec::new();
    for cause in error.chain() {
        if let Some(io_error) = cause.downcast_ref::<io::Error>() {
            match io_error.kind() {
                io::ErrorKind::PermissionDenied => hints.push("run as root"),
                io::ErrorKind::StorageFull => {
                    hints.push("free some space on the file system that holds the Docker root");
                }
                _ => {}
            }
        }
    }
    hints
}
