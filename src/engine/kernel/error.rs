//! Why the kernel engine stops.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{base, claim};
use crate::chain::Chain;
use crate::engine::checkpoint::CheckpointError;
use crate::engine::left_file;
use crate::path_error::PathError;
use crate::pool::{device_error, leftovers};
use crate::populate;
use crate::shell::word;
use crate::tree::shown;
use crate::units::Bytes;

/// Why the kernel engine stops. What it made was removed again, unless the error lists what is left.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A device cannot be used.
    #[error(transparent)]
    Device(#[from] device_error::Error),
    /// The base device's file system cannot be made.
    #[error(transparent)]
    Base(base::Error),
    /// A layer cannot be written.
    #[error(transparent)]
    Populate(populate::Error),
    /// The record of what is made outside the staging directory failed.
    #[error(transparent)]
    Claim(#[from] claim::Error),
    /// What a killed run left cannot be found or removed.
    #[error(transparent)]
    Leftovers(#[from] leftovers::Error),
    /// What an earlier run made outside the staging directory is still there.
    #[error(
        "{what}: made by an earlier run, and cannot be removed (resolve the cause or, if what was made does not \
         matter, remove {})",
        record.display()
    )]
    NotTakenBack {
        /// What was made.
        what: String,
        /// The record that describes it.
        record: PathBuf,
        /// Why it cannot be removed.
        source: Box<Error>,
    },
    /// A record describes what the conversion did not make.
    #[error(
        "{}: is a record of {what}, but {why}; nothing was done, because it is not known who wrote it. Next: if none \
         of that is to be removed, remove the record with `rm {}`, then run the same command again",
        shown(record),
        word(record)
    )]
    NotOrdered {
        /// What was made, according to the record.
        what: String,
        /// The record.
        record: PathBuf,
        /// Why the record does not fit the conversion.
        why: String,
    },
    /// The record of an earlier run does not fit what is there now.
    #[error("{}: {why}", what.display())]
    NotOurs {
        /// The pool or device.
        what: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// What an earlier run should have left is not there. Nothing was changed.
    #[error("{}: {why}; the earlier run cannot be resumed, only undone", what.display())]
    NotAsLeft {
        /// The pool, device or record.
        what: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// A file that an earlier run left cannot be used.
    #[error(transparent)]
    LeftFile(#[from] left_file::Error),
    /// A resumed run could not start. What the earlier run made was not changed: the run can be tried again, or undone.
    #[error(transparent)]
    NotResumed(Box<Error>),
    /// The progress of the run cannot be recorded.
    #[error(transparent)]
    NotNoted(#[from] CheckpointError),
    /// The pool has changed since the layers were planned.
    #[error(
        "{}: its transaction id changed from {planned} to {now} in the meantime; is something else using the pool?",
        pool.display()
    )]
    PoolChanged {
        /// The pool.
        pool: PathBuf,
        /// The transaction id at that time.
        planned: u64,
        /// The transaction id now.
        now: u64,
    },
    /// The pool has too little room.
    #[error(
        "{target}: too small: up to {needed} of {what} is needed, but only {free} is free; nothing was changed"
    )]
    PoolTooSmall {
        /// The pool.
        target: String,
        /// `data` or `metadata`.
        what: &'static str,
        /// What is needed.
        needed: Bytes,
        /// The free space.
        free: Bytes,
    },
    /// A file or directory of the staging directory cannot be used.
    #[error(transparent)]
    Io(#[from] PathError),
    /// The copying threads cannot be started.
    #[error("cannot start {jobs} threads")]
    Threads {
        /// The number of threads.
        jobs: usize,
        /// The cause.
        source: rayon::ThreadPoolBuildError,
    },
    /// An operation failed because the pool did.
    #[error("{problem}; the error that revealed it: {noticed}", noticed = Chain(&**.noticed))]
    Pool {
        /// What is wrong with the pool.
        problem: device_error::Error,
        /// The error that showed it.
        noticed: Box<Error>,
    },
    /// The run failed, and not everything that it made could be removed.
    #[error("{}; {left}", Chain(&**.cause))]
    Left {
        /// Why the run failed.
        cause: Box<Error>,
        /// What is left, with the commands that remove it.
        left: device_error::Error,
    },
    /// The run was stopped on request.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    pub(super) fn io(path: &Path, op: &'static str) -> impl FnOnce(io::Error) -> Self {
        let error = PathError::on(path, op);
        move |source| error(source).into()
    }

    /// Whether the disk below failed, as far as the failed system call shows.
    pub(super) fn is_of_the_disk(&self) -> bool {
        use device_error::Error as Device;
        let source = match self {
            Self::Device(Device::FileSystemFailed { .. }) => return true,
            Self::Device(Device::Mount { source, .. } | Device::Io(PathError { source, .. }))
            | Self::Populate(populate::Error::Target { source, .. }) => source,
            _ => return false,
        };
        let errno = source.raw_os_error().map(Errno::from_raw);
        matches!(errno, Some(Errno::EIO | Errno::EROFS | Errno::EUCLEAN))
    }

    /// Whether something is left outside the staging directory.
    pub(super) fn leaves_something(&self) -> bool {
        matches!(self, Self::Left { .. } | Self::NotTakenBack { .. })
    }

    /// Whether the run was stopped on request, whatever else happened.
    pub(super) fn is_interrupted(&self) -> bool {
        matches!(self, Self::Interrupted)
    }
}

impl From<base::Error> for Error {
    fn from(error: base::Error) -> Self {
        match error {
            base::Error::Interrupted => Self::Interrupted,
            error => Self::Base(error),
        }
    }
}

impl From<populate::Error> for Error {
    fn from(error: populate::Error) -> Self {
        match error {
            populate::Error::Interrupted => Self::Interrupted,
            error => Self::Populate(error),
        }
    }
}
