//! A planned conversion of which nothing has been written yet.

use std::collections::BTreeSet;

use super::lost_flags::LostFlags;
use super::open_root::OpenRoot;
use super::recorded_options::RecordedOptions;
use crate::aufs::Counts;
use crate::commit::{EditedConfig, StoreEdit};
use crate::daemon::first_start::Switch;
use crate::docker::DamageRecord;
use crate::engine::Job;

/// A root that was read, with its plan. Nothing has been written.
#[derive(Debug)]
pub struct PlannedConversion {
    pub(super) source: OpenRoot,
    pub(super) job: Box<dyn Job>,
    pub(super) order: RecordedOptions,
    /// The change to the daemon's settings, if one was ordered.
    pub(super) daemon: Option<Switch>,
    pub(super) configs: Vec<EditedConfig>,
    pub(super) counts: Counts,
    /// How the new image store differs from the original.
    pub(super) edits: Vec<StoreEdit>,
    /// What was damaged, as it is recorded.
    pub(super) damage: DamageRecord,
    /// File flags that no device gets.
    pub(super) lost_flags: LostFlags,
    /// Names in the branches that whiteouts hide, as paths relative to the root.
    pub(super) hidden: BTreeSet<String>,
}
