//! The requests, one type per command.

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

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)] // what serde calls
fn is_yes(choice: &bool) -> bool {
    *choice
}

#[allow(clippy::trivially_copy_pass_by_ref)] // what serde calls
fn is_no(choice: &bool) -> bool {
    !*choice
}

/// The operator's choices for the result. An interrupted conversion continues with those in its journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools)] // each is a word of its own
pub struct Choices {
    /// What to do with layers that nothing refers to.
    pub orphans: Orphans,
    /// Make good what other data of the root proves. Earlier versions did not know this choice.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub repair: bool,
    /// Leave out what is damaged and cannot be made good, with everything that is built on it.
    #[serde(default, skip_serializing_if = "is_no")]
    pub skip_damaged: bool,
    /// What writes the pool, and where.
    pub writer: Writer,
    /// Make daemon.json name the driver and its options.
    pub switch_daemon: bool,
    /// Verify the result before it is moved into place.
    pub verify: bool,
}

/// A request to convert a root.
#[derive(Clone, Debug)]
pub struct Request {
    /// Docker's data directory.
    pub root: PathBuf,
    /// Where to look at the running system, including Docker's pid file.
    pub host: Host,
    /// Only a plan is wanted: nothing is written, so Docker may run.
    pub dry_run: bool,
    /// Start over although layers of an interrupted conversion are kept.
    pub restart: bool,
    /// Choices for the result.
    pub choices: Choices,
    /// Choices for the plan.
    pub plan: plan::Choices,
    /// Number of threads that read and write.
    pub jobs: NonZeroUsize,
    /// Set to stop early.
    pub cancel: Cancel,
    /// Minimum time between two records of what is durable; zero: after each layer.
    pub checkpoint: Duration,
}

/// A request to continue an interrupted conversion. Everything else was decided when it began.
#[derive(Clone, Debug)]
pub struct ResumeRequest {
    /// Docker's data directory.
    pub root: PathBuf,
    /// Where to look at the running system.
    pub host: Host,
    /// Number of threads that read and write.
    pub jobs: NonZeroUsize,
    /// Set to stop early.
    pub cancel: Cancel,
    /// Minimum time between two records of what is durable; zero: after each layer.
    pub checkpoint: Duration,
    /// Finish a move although the aufs side was written to after it was converted: the devices lack those changes.
    pub leave_aufs_changes: bool,
}

/// A request to verify a root.
#[derive(Clone, Debug)]
pub struct VerifyRequest {
    /// Docker's data directory.
    pub root: PathBuf,
    /// Where to look at the running system.
    pub host: Host,
    /// How much is read.
    pub mode: Mode,
    /// Whether to ask the kernel too.
    pub kernel: bool,
    /// The location of the pool; `None`: where the conversion made it, or in loop files.
    pub target: Option<Target>,
    /// Number of threads.
    pub jobs: NonZeroUsize,
    /// Set to stop early.
    pub cancel: Cancel,
}

/// What may be removed although there is no other copy.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // each is a word of its own
pub struct MayLose {
    /// Layers that the conversion left out.
    pub left_out: bool,
    /// Data on the aufs side that was not converted, and data that is missing there.
    pub aufs_changes: bool,
    /// The target of `aufs` if it is a symbolic link: another root may use it.
    pub linked_aufs: bool,
    /// Layers that the full verification could not check.
    pub unverified: bool,
}

/// A request to roll a conversion back.
#[derive(Clone, Debug)]
pub struct RollbackRequest {
    /// Docker's data directory.
    pub root: PathBuf,
    /// Where to look at the running system.
    pub host: Host,
    /// Go back although Docker has worked on the converted root since.
    pub force: bool,
    /// Go back although the aufs side is not whole.
    pub onto_damaged: bool,
    /// Set to stop before anything is changed. Changes that have begun run to completion.
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
