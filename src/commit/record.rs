//! The journal's lines.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::content::PoolData;
use super::moves::Move;
use super::removal::Removal;
use super::second_place::SecondPlace;
use super::times::Times;
use super::verification::VerificationRecord;
use crate::daemon::first_start::Switch;

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "record")]
pub enum Record {
    /// A conversion begins: this is the first line.
    Begun(Beginning),
    /// The content of these devices, given by their indexes in the plan, is durable.
    Durable {
        /// The indexes.
        devices: Vec<usize>,
    },
    /// The containers' configs are staged beside them because they are on a mount of their own.
    Beside(SecondPlace),
    /// What is staged beside the configs is no longer needed, and is about to be removed.
    NothingBeside,
    /// What was durable is about to be removed: no device counts as durable any more.
    Undone,
    /// What is staged or in place was found to match aufs.
    Entries {
        /// The digests of the entries of the layers' devices, by layer id.
        devices: BTreeMap<String, String>,
        /// The digests of the bytes of their files, by layer id, if no tar says what these must be.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        bytes: BTreeMap<String, String>,
    },
    /// Everything is staged and durable, and is about to be moved into place.
    Switching(Box<SwitchPlan>),
    /// The move failed and was undone.
    TakenBack,
    /// Everything is in place and durable.
    Switched {
        /// Seconds since 1970.
        at: u64,
    },
    /// What is in place was verified, with this outcome.
    Verified(VerificationRecord),
    /// Everything is about to be taken back.
    RollingBack {
        /// A digest of when the entries of the aufs side were last changed. Earlier versions did not record it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        aufs_times: Option<String>,
    },
    /// The aufs side is about to be removed.
    Committing(Box<Removal>),
    /// The aufs side was moved out of the root, as far as it can be moved, and the first part of it is about to be
    /// removed for good.
    Removing,
}

/// The beginning of a conversion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beginning {
    /// The version of the journal's format.
    pub version: u32,
    /// The version of the tool.
    pub tool: String,
    /// Seconds since 1970.
    pub at: u64,
    /// The root directory's times before the conversion.
    pub root: Times,
    /// The options and the plan; only the conversion interprets them.
    pub order: Value,
}

/// The plan for moving everything into place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwitchPlan {
    /// The steps, in order.
    pub moves: Vec<Move>,
    /// The original times of the directories that the steps change.
    pub times: Vec<Times>,
    /// The devicemapper side as it is moved into place, to determine later whether Docker has used it.
    pub written: super::file_digests::FileDigests,
    /// The pool's data at that time, if they are in a loop file. Earlier versions did not record this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<PoolData>,
    /// The aufs side as it was converted. Earlier versions did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aufs: Option<super::aufs_side::AufsSide>,
    /// How the daemon is switched to its new driver, if that was requested.
    pub daemon: Option<Switch>,
}
