//! Why a device cannot be used, and what could not be removed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::refusal::Refusal;
use super::status::Problem;
use crate::path_error::PathError;
use crate::sys::device_mapper;
use crate::thin::ThinId;

/// Why the kernel engine cannot use a device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target is not suitable. Nothing was changed.
    #[error("{}: {why}", path.display())]
    Refused {
        /// The device or file that the operator named.
        path: PathBuf,
        /// Why it is not suitable, and what to do.
        why: Box<Refusal>,
    },
    /// The kernel lacks a feature.
    #[error(
        "{what} in this kernel: {remedy}; `--engine direct` (ext4 in new loop files) does not need that"
    )]
    Missing {
        /// The feature, as in `no thin-pool target`.
        what: &'static str,
        /// How to get it.
        remedy: &'static str,
        /// The cause, if there is one.
        source: Option<io::Error>,
    },
    /// Device-mapper refused an operation.
    #[error(transparent)]
    DeviceMapper(#[from] device_mapper::Error),
    /// An operation on a file, device, loop device or mount point failed.
    #[error(transparent)]
    Io(#[from] PathError),
    /// A required program cannot be started or does not do its work.
    #[error("{program}: {what}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What happened and what to do.
        what: String,
    },
    /// The pool already has a thin device with this id.
    #[error("thin pool {pool}: thin device {id} already exists; is something else using the pool?")]
    IdTaken {
        /// The pool's name.
        pool: String,
        /// The id.
        id: ThinId,
    },
    /// The pool has no room left.
    #[error("thin pool {pool}: {full}. Next: extend it, then start again")]
    PoolFull {
        /// The pool's name.
        pool: String,
        /// The device that is full.
        full: Full,
    },
    /// A file that a pool is built on cannot grow.
    #[error("{}: the file system it is on is full. Next: free up space, then start again", path.display())]
    FileSystemFull {
        /// The file.
        path: PathBuf,
    },
    /// The pool can no longer be written to.
    #[error("thin pool {pool}: {problem}; the kernel's log (dmesg) says why")]
    PoolFailed {
        /// The pool's name.
        pool: String,
        /// The problem that its status shows.
        problem: Problem,
    },
    /// Reads or writes fail below the pool, but the pool's status does not show it.
    #[error("thin pool {pool}: a device below it is failing; the kernel's log (dmesg) says which")]
    DiskFailed {
        /// The pool's name.
        pool: String,
    },
    /// The pool's status or table has an unknown format.
    #[error("thin pool {pool}: unexpected status or table: {text}")]
    Unreadable {
        /// The pool's name.
        pool: String,
        /// The text that device-mapper printed.
        text: String,
    },
    /// A file system on a thin device failed.
    #[error(
        "thin device {device}: its file system gave up after an I/O error; the kernel's log (dmesg) says why"
    )]
    FileSystemFailed {
        /// The device's name.
        device: String,
        /// The cause, if a failed call gave one.
        source: Option<io::Error>,
    },
    /// The kernel does not mount a thin device.
    #[error("thin device {device}: cannot be mounted; the kernel's log (dmesg) may say why")]
    Mount {
        /// The device's name.
        device: String,
        /// The cause.
        source: io::Error,
    },
    /// The mount point does not show the thin device's file system but something else.
    #[error("{}: not the file system of thin device {device}", path.display())]
    NotMounted {
        /// The mount point.
        path: PathBuf,
        /// The device's name.
        device: String,
    },
    /// Some items could not be removed.
    #[error("something was left behind. Next: run this by hand:\n{}", commands(.0))]
    Stuck(Vec<BusyDevice>),
}

/// The device of a pool that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The data device.
    Data,
    /// The metadata device.
    Metadata,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "its data device is full",
            Self::Metadata => "its metadata device is full",
        })
    }
}

/// An item that could not be removed, and the command that removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusyDevice {
    /// The item, and why it is still there.
    pub what: String,
    /// The command.
    pub command: String,
}

impl fmt::Display for BusyDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}    # {}", self.command, self.what)
    }
}

fn commands(stuck: &[BusyDevice]) -> String {
    let lines: Vec<_> = stuck.iter().map(|stuck| format!("  {stuck}")).collect();
    lines.join("\n")
}

impl Error {
    pub(crate) fn io(path: &Path, op: &'static str) -> impl FnOnce(io::Error) -> Self {
        let error = PathError::on(path, op);
        move |source| error(source).into()
    }

    pub(crate) fn refused(path: &Path, why: Refusal) -> Self {
        Self::Refused {
            path: path.to_owned(),
            why: Box::new(why),
        }
    }

    /// Whether the error already says what is wrong with the pool or below it.
    pub(crate) fn is_about_the_pool(&self) -> bool {
        matches!(
            self,
            Self::PoolFull { .. } | Self::PoolFailed { .. } | Self::FileSystemFull { .. }
        )
    }

    /// The error for a problem that keeps a pool from being written to.
    pub(super) fn problem(pool: &str, problem: Problem) -> Self {
        let pool = pool.to_owned();
        match problem {
            Problem::DataFull => Self::PoolFull {
                pool,
                full: Full::Data,
            },
            Problem::MetadataFull => Self::PoolFull {
                pool,
                full: Full::Metadata,
            },
            problem => Self::PoolFailed { pool, problem },
        }
    }
}
