//! What was asked for, one type for each command.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::writer::Writer;
use crate::daemon::Host;
use crate::docker::Orphans;
use crate::plan;
use crate::pool::target::Target;
use crate::progress::Cancel;
use crate::verify::Mode;

/// What the operator chose of the result. An interrupted conversion goes on with what its journal has of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choices {
    /// What becomes of layers that nothing refers to.
    pub orphans: Orphans,
    /// What writes the pool, and where.
    pub writer: Writer,
    /// Let daemon.json name the driver and its options.
    pub switch_daemon: bool,
    /// Verify the result before it is moved in place.
    pub verify: bool,
}

/// What the operator asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Docker's data directory.
    pub root: PathBuf,
    /// Where the running system is looked at, Docker's pid file among it.
    pub host: Host,
    /// Only a plan is wanted: nothing is written, so Docker may run.
    pub dry_run: bool,
    /// Begin anew although layers of an interrupted conversion are kept.
    pub restart: bool,
    /// What is chosen of the result.
    pub choices: Choices,
    /// What is chosen of the plan.
    pub plan: plan::Choices,
    /// Threads that read and write.
    pub jobs: NonZeroUsize,
    /// Set to stop early.
    pub cancel: Cancel,
    /// The least time between two notes of what is durable; zero: after each layer.
    pub checkpoint: Duration,
}

/// What an interrupted conversion is gone on with. All else was decided when it began.
#[derive(Clone, Debug)]
pub struct ResumeRequest {
    /// Docker's data directory.
    pub root: PathBuf,
    /// Where the running system is looked at.
    pub host: Host,
    /// Threads that read and write.
    pub jobs: NonZeroUsize,
    /// Set to stop early.
    pub cancel: Cancel,
    /// The least time between two notes of what is durable; zero: after each layer.
    pub checkpoint: Duration,
    /// End a move although the aufs side was written to after it was converted: the devices do not have that.
    pub leave_aufs_changes: bool,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct VerifyRequest {
    /// Docker's data directory.
    pub root: PathBuf,
    /// Where the running system is looked at.
    pub host: Host,
    /// How much is read.
    pub mode: Mode,
    /// Whether the kernel is asked too.
    pub kernel: bool,
    /// Where the pool is; `None`: where the conversion made it, or in loop files.
    pub target: Option<Target>,
    /// Threads.
    pub jobs: NonZeroUsize,
    /// Set to stop early.
    pub cancel: Cancel,
}

/// What may go although it has no other copy.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // each is a word of its own
pub struct MayLose {
    /// Layers that the conversion left out.
    pub left_out: bool,
    /// What is on the aufs side and was not converted, and what is missing there.
    pub aufs_changes: bool,
    /// What lies where `aufs` leads, being a symbolic link: another root may use it.
    pub linked_aufs: bool,
    /// Layers that the full verification could not look at.
    pub unverified: bool,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct RollbackRequest {
    /// Docker's data directory.
    pub root: PathBuf,
    /// Where the running system is looked at.
    pub host: Host,
    /// Go back although Docker has worked on the new root since.
    pub force: bool,
    /// Go back although the aufs side is not whole.
    pub onto_damaged: bool,
    /// Set to stop before anything is changed. What was begun goes on to its end.
    pub cancel: Cancel,
}

impl RollbackRequest {
    pub(super) fn expect_not_cancelled(&self) -> Result<(), Error> {
        if self.cancel.is_set() {
            return Err(Error::Interrupted);
        }
        Ok(())
    }
}
