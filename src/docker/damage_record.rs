//! What was damaged in a root when it was converted, in the form that is recorded.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::store_edits::StoreEdits;

/// What was damaged on the aufs side when it was converted, and how the new side differs for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamageRecord {
    /// How the image store of the new side differs from the original.
    #[serde(default, skip_serializing_if = "StoreEdits::is_empty")]
    pub edits: StoreEdits,
    /// The images and containers that were left out, each with its names, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// The ids of the containers among them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub containers: BTreeSet<String>,
    /// The damaged files and directories, as paths relative to the root.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub paths: BTreeSet<String>,
}

impl DamageRecord {
    /// Whether nothing was damaged.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
