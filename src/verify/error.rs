//! The reasons why a verification, or a part of it, is impossible.

use std::path::PathBuf;

use crate::chain::Chain;
use crate::docker::ReadError;
use crate::pool::DeviceError;
use crate::pool::Problem;
use crate::shell::word;
use crate::tree::shown;

/// The reason why nothing can be verified.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Docker's stores cannot be opened.
    #[error(transparent)]
    Store(#[from] ReadError),
    /// A device of the pool is missing. That is not damage: it may just be inactive.
    #[error(
        "{}: there is no such device; the pool is not active or its disk is not attached, so nothing was verified. \
         Next: {remedy}, then run the same command again",
        path.display()
    )]
    DeviceMissing {
        /// The device.
        path: PathBuf,
        /// How to make it available.
        remedy: String,
    },
    /// A pool exists but cannot be read in its present state. That is not damage either.
    #[error("{}; nothing was verified; resolve that, then run the same command again", Chain(.0))]
    PoolOutOfReach(DeviceError),
    /// A loop file of the pool is a link to another place. That is not damage either.
    #[error(
        "{}: is a symbolic link to {}, which may be another root's pool; aufs2dm does not follow it, and nothing was verified. \
         Next: make it a file again (`mv -T {} {}`), then run the same command again",
        shown(path),
        shown(target),
        word(target),
        word(path)
    )]
    LinkedPool {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// The kernel does not allow writes to the pool.
    #[error(
        "{}: the pool cannot be written to: {problem}; nothing was verified. Next: {remedy}, then run the same command again",
        path.display()
    )]
    PoolNotWritable {
        /// The pool.
        path: PathBuf,
        /// What prevents writes.
        problem: Problem,
        /// How to fix that.
        remedy: String,
    },
    /// Threads cannot be started.
    #[error("cannot start {jobs} threads; try fewer (--jobs)")]
    Threads {
        /// The number that was requested.
        jobs: usize,
        /// The system's reason.
        source: rayon::ThreadPoolBuildError,
    },
    /// The verification was told to stop.
    #[error("interrupted")]
    Interrupted,
}
