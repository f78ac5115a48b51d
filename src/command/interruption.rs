//! A run that was told to stop, and what it leaves.

use std::path::PathBuf;

use crate::commit::State;

/// A run that was told to stop, and what it leaves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Interruption {
    pub(super) root: PathBuf,
    /// What begins the same anew.
    pub(super) again: &'static str,
    pub(super) left: Remains,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remains {
    /// No conversion.
    Nothing,
    /// Layers of a conversion, and of how many if its journal tells.
    Layers(usize, Option<u32>),
    /// Nothing was changed: the root is converted.
    Converted,
    /// What is begun has to be ended.
    Unfinished(State),
    /// It cannot be told.
    Unknown,
}
