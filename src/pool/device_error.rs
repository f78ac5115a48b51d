//! Why a device cannot be used, and what could not be taken down.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::refusal::Refusal;
use super::status::Problem;
use crate::sys::device_mapper;
use crate::thin::ThinId;

/// Why the kernel engine cannot use a device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target does not suit. Nothing was changed.
    #[error("{}: {why}", path.display())]
    Refused {
        /// The device or file the operator named.
        path: PathBuf,
        /// What does not suit and what to do.
        why: Box<Refusal>,
    },
    /// The kernel lacks something.
    #[error(
        "{what} in this kernel: {remedy}; `--engine direct`, ext4 in new loop files, needs none of it"
    )]
    Missing {
        /// What: `no thin-pool target`, …
        what: &'static str,
        /// What brings it.
        remedy: &'static str,
        /// What the system said, where it said something.
        source: Option<io::Error>,
    },
    /// Device-mapper refused something.
    #[error(transparent)]
    DeviceMapper(#[from] device_mapper::Error),
    /// A file, device, loop device or mount point.
    #[error("{}: cannot {op}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What was tried.
        op: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A program that is needed cannot be started or does not do its work.
    #[error("{program}: {what}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What happened and what to do.
        what: String,
    },
    /// The pool has a thin device of this number.
    #[error(
        "thin pool {pool}: there is a thin device {id} already; does something else use the pool?"
    )]
    IdTaken {
        /// The pool's name.
        pool: String,
        /// The number.
        id: ThinId,
    },
    /// The pool has no room left.
    #[error("thin pool {pool}: {full}; give it more room and start again")]
    PoolFull {
        /// The pool's name.
        pool: String,
        /// Which of its devices.
        full: Full,
    },
    /// A file that a pool stands on cannot grow.
    #[error("{}: the file system it is on is full; make room and start again", path.display())]
    FileSystemFull {
        /// The file.
        path: PathBuf,
    },
    /// The pool cannot be written to any more.
    #[error("thin pool {pool}: {problem}; the kernel's log (dmesg) says why")]
    PoolFailed {
        /// The pool's name.
        pool: String,
        /// What it says of itself.
        problem: Problem,
    },
    /// Reads or writes fail below the pool, which itself has no word for it.
    #[error("thin pool {pool}: a device below it fails; the kernel's log (dmesg) says which")]
    DiskFailed {
        /// The pool's name.
        pool: String,
    },
    /// The pool's status or table has a form that is not known.
    #[error("thin pool {pool}: not understood: {text}")]
    Unreadable {
        /// The pool's name.
        pool: String,
        /// What device-mapper printed.
        text: String,
    },
    /// A file system on a thin device failed.
    #[error(
        "thin device {device}: its file system gave up after an I/O error; the kernel's log (dmesg) says why"
    )]
    FileSystemFailed {
        /// The device's name.
        device: String,
        /// What the system said, if it was asked by a call that failed.
        source: Option<io::Error>,
    },
    /// The kernel does not mount a thin device.
    #[error("thin device {device}: cannot be mounted; the kernel's log (dmesg) may say why")]
    Mount {
        /// The device's name.
        device: String,
        /// What the system said.
        source: io::Error,
    },
    /// Something else is mounted where the thin device's file system should be.
    #[error("{}: not the file system of thin device {device}", path.display())]
    NotMounted {
        /// The mount point.
        path: PathBuf,
        /// The device's name.
        device: String,
    },
    /// Not everything could be taken down.
    #[error("left behind, do this by hand:\n{}", commands(.0))]
    Stuck(Vec<BusyDevice>),
}

/// Which of a pool's devices is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The one for data.
    Data,
    /// The one for metadata.
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

/// Something that could not be taken down, and the command that does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusyDevice {
    /// What is still there, and why.
    pub what: String,
    /// What to type.
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
        let path = path.to_owned();
        move |source| Self::Io { path, op, source }
    }

    pub(crate) fn refused(path: &Path, why: Refusal) -> Self {
        Self::Refused {
            path: path.to_owned(),
            why: Box::new(why),
        }
    }

    /// Whether it says already what is wrong with the pool or below it.
    pub(crate) fn is_about_the_pool(&self) -> bool {
        matches!(
            self,
            Self::PoolFull { .. } | Self::PoolFailed { .. } | Self::FileSystemFull { .. }
        )
    }

    /// What keeps a pool from being written to, as an error.
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
