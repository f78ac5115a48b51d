//! What the layers hold that a file system cannot: all of it, so that it is resolved in one go.

use std::fmt;

use super::xfs_problem::XfsProblem;
use crate::docker::CacheId;
use crate::ext4::write::Problem;

/// The number of entries that are named for each layer.
const NAMED: usize = 8;

/// The entries of one layer that the file system cannot hold as they are.
#[derive(Debug)]
pub struct LayerLimits {
    /// The layer.
    pub layer: CacheId,
    /// The first few of them; at least one.
    pub first: Vec<EntryLimit>,
    /// The number of further ones.
    pub more: u64,
}

/// An entry that the file system cannot hold as it is.
#[derive(Debug)]
pub struct EntryLimit {
    /// Its path within the layer, escaped.
    pub path: String,
    /// What is wrong with it.
    pub problem: LimitProblem,
}

/// What is wrong with an entry, by file system.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitProblem {
    /// On ext4.
    #[error(transparent)]
    Ext4(Problem),
    /// On xfs.
    #[error(transparent)]
    Xfs(XfsProblem),
}

impl LayerLimits {
    /// The limits that a layer exceeds; `None` if there are none.
    pub(super) fn of(layer: &CacheId, mut found: impl Iterator<Item = EntryLimit>) -> Option<Self> {
        let first: Vec<_> = found.by_ref().take(NAMED).collect();
        (!first.is_empty()).then(|| Self {
            layer: layer.clone(),
            first,
            more: found.count() as u64,
        })
    }

    /// Whether the other file system, xfs for ext4 and the reverse, holds the entries that are named.
    pub fn is_held_by_the_other(&self) -> bool {
        self.first.iter().all(|entry| match &entry.problem {
            LimitProblem::Ext4(problem) => problem.is_of_ext4(),
            LimitProblem::Xfs(_) => true,
        })
    }
}

impl fmt::Display for LayerLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, EntryLimit { path, problem }) in self.first.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{path}: {problem}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// All layers with their ids, for messages.
pub(super) struct Listed<'a>(pub(super) &'a [LayerLimits]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, limits) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}layer {}: {limits}", limits.layer)?;
        }
        Ok(())
    }
}
