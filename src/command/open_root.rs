//! A root that was opened for conversion.

use super::damage::Damage;
use super::earlier_run::EarlierRun;
use super::request::Request;
use super::store_times::Stores;
use crate::commit::RootLock;
use crate::daemon::PidFiles;
use crate::docker::{Model, Root};
use crate::engine::Engine;

/// A root that can be converted, with daemons kept out of it.
#[derive(Debug)]
pub struct OpenRoot {
    pub(super) request: Request,
    pub(super) root: Root,
    pub(super) model: Model,
    /// The state of Docker's own files before they were read.
    pub(super) stores: Stores,
    /// What the operator should know.
    pub(super) notices: Vec<String>,
    /// What is damaged, and what becomes of it.
    pub(super) damage: Vec<Damage>,
    /// The reasons why a run would refuse; empty for a real run.
    pub(super) obstacles: Vec<String>,
    /// What Docker must be told by hand because it is not in `daemon.json`.
    pub(super) by_hand: Vec<String>,
    /// The writer of the pool.
    pub(super) engine: Box<dyn Engine>,
    /// Held until the conversion ends.
    pub(super) pid_files: Option<PidFiles>,
    /// Whether Docker has been told everything already.
    pub(super) is_told: bool,
    /// The conversion that is being continued.
    pub(super) resumed: Option<EarlierRun>,
    /// Keeps other runs out; `None` when only a plan is wanted.
    pub(super) _root_lock: Option<RootLock>,
}
