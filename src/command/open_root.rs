//! A root that was opened to be converted.

use super::earlier_run::EarlierRun;
use super::request::Request;
use super::store_times::Stores;
use super::writer::CheckedTarget;
use crate::commit::RootLock;
use crate::daemon::PidFiles;
use crate::docker::{Model, Root};

/// A root that can be converted, with daemons kept out of it.
#[derive(Debug)]
pub struct OpenRoot {
    pub(super) request: Request,
    pub(super) root: Root,
    pub(super) model: Model,
    /// Docker's own files as they were before they were read.
    pub(super) stores: Stores,
    /// What the operator should know.
    pub(super) notices: Vec<String>,
    /// What a run would refuse; a run has none.
    pub(super) obstacles: Vec<String>,
    /// What Docker must be told by hand, where that is not in `daemon.json`.
    pub(super) by_hand: Vec<String>,
    /// What will write the pool.
    pub(super) ready: CheckedTarget,
    /// Held until the conversion ends.
    pub(super) pid_files: Option<PidFiles>,
    /// Whether Docker is told all of it already.
    pub(super) is_told: bool,
    /// The conversion that is gone on with.
    pub(super) resumed: Option<EarlierRun>,
    /// Keeps other runs out; `None` when only a plan is wanted.
    pub(super) _root_lock: Option<RootLock>,
}
