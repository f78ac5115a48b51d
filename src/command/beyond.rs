//! Entries that the devices' file system cannot hold, with the images and containers that need them.

use std::fmt;
use std::path::Path;

use crate::docker::Hits;
use crate::plan::{LayerLimits, LimitProblem};
use crate::shell::SameCommand;

/// A layer with entries that the file system cannot hold.
#[derive(Debug)]
pub struct BeyondLimits {
    /// The layer and the entries.
    pub limits: LayerLimits,
    /// Which images and containers need it.
    pub hits: Hits,
}

impl fmt::Display for BeyondLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limits, hits } = self;
        write!(f, "layer {} ({hits}): {limits}", limits.layer)
    }
}

/// All of the layers.
pub(super) fn list(layers: &[BeyondLimits]) -> String {
    let layers: Vec<_> = layers.iter().map(ToString::to_string).collect();
    layers.join("; ")
}

/// The way on.
pub(super) fn next(path: &Path, layers: &[BeyondLimits]) -> String {
    let is_xfs = layers.iter().any(|layer| {
        let mut entries = layer.limits.first.iter();
        entries.any(|entry| matches!(entry.problem, LimitProblem::Xfs(_)))
    });
    let again = SameCommand::new("convert", path);
    let is_held_by_the_other = |layer: &BeyondLimits| layer.limits.is_held_by_the_other();
    if !layers.iter().all(is_held_by_the_other) {
        format!(
            "change or remove these entries in the layers' directories in aufs/diff, then `{again}`"
        )
    } else if is_xfs {
        "run the same command without `--fs xfs`: ext4 has higher limits there".to_owned()
    } else {
        let again = again.without("--engine=direct").with("--fs=xfs");
        format!("xfs has higher limits there: `{again}`")
    }
}
