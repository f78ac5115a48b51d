//! A run that was told to stop, and what it leaves.

use std::path::PathBuf;

use crate::commit::State;

/// A run that was told to stop, and what it leaves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Interruption {
    pub(super) root: PathBuf,
    /// The command line that starts the same run anew.
    pub(super) again: &'static str,
    pub(super) left: Remains,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remains {
    /// No conversion.
    Nothing,
    /// Layers of a conversion, and their planned number if the journal has it.
    Layers(usize, Option<u32>),
    /// Nothing was changed: the root is converted.
    Converted,
    /// A change was begun and has to be finished.
    Unfinished(State),
    /// Unknown.
    Unknown,
}
