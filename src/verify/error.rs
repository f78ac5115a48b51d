//! Why a verification cannot be made, or one of its parts.

use std::path::PathBuf;

use crate::chain::Chain;
use crate::docker::ReadError;
use crate::pool::DeviceError;
use crate::pool::Problem;
use crate::shell::word;
use crate::tree::shown;

/// Why nothing can be verified.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Docker's stores cannot be opened.
    #[error(transparent)]
    Store(#[from] ReadError),
    /// A device of the pool is not there. That is no damage: it may only not be active.
    #[error(
        "{}: there is no such device; the pool is not active, or its disk is not attached, and nothing was verified: {remedy}, then \
         the same command again",
        path.display()
    )]
    DeviceMissing {
        /// The device.
        path: PathBuf,
        /// What brings it.
        remedy: String,
    },
    /// A pool that is there cannot be looked at as it is. That is no damage either.
    #[error("{}; nothing was verified; end that, then the same command again", Chain(.0))]
    PoolOutOfReach(DeviceError),
    /// A loop file of the pool lies elsewhere. That is no damage either.
    #[error(
        "{}: is a symbolic link to {}; aufs2dm follows none there, for that may be another root's pool, and nothing was verified: make it a          file again (`mv -T {} {}`), then the same command again",
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
    /// The kernel lets nothing be written to the pool.
    #[error(
        "{}: the pool cannot be written to: {problem}; nothing was verified: {remedy}, then the same command again",
        path.display()
    )]
    PoolNotWritable {
        /// The pool.
        path: PathBuf,
        /// What keeps it from being written to.
        problem: Problem,
        /// What ends that.
        remedy: String,
    },
    /// Threads cannot be started.
    #[error("cannot start {jobs} threads; try fewer (--jobs)")]
    Threads {
        /// How many were asked for.
        jobs: usize,
        /// The system's reason.
        source: rayon::ThreadPoolBuildError,
    },
    /// It was told to stop.
    #[error("interrupted")]
    Interrupted,
}
