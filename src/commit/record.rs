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

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "record")]
pub enum Record {
    /// A conversion begins: the first line.
    Begun(Beginning),
    /// The content of these devices is durable, by their places in the plan.
    Durable {
        /// The places.
        devices: Vec<usize>,
    },
    /// The containers' configs are staged beside them, where they are on a mount of their own.
    Beside(SecondPlace),
    /// What is beside them is about to be removed, and needed no more.
    NothingBeside,
    /// What was durable is about to be removed: no device is any more.
    Undone,
    /// What is staged or in place was found to be what aufs has.
    Entries {
        /// The digests of the entries of the layers' devices, by the layers' ids.
        devices: BTreeMap<String, String>,
        /// Likewise of the bytes of their files, where no tar tells what these must be.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        bytes: BTreeMap<String, String>,
    },
    /// All is staged and durable, and is about to be moved in place.
    Switching(Box<SwitchPlan>),
    /// The move failed and was taken back.
    TakenBack,
    /// All is in place and durable.
    Switched {
        /// Seconds since 1970.
        at: u64,
    },
    /// What is in place was verified, with this outcome.
    Verified(VerificationRecord),
    /// All is about to be taken back.
    RollingBack {
        /// A digest of when the entries of the aufs side were last changed. Earlier versions did not note it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        aufs_times: Option<String>,
    },
    /// The aufs side is about to be removed.
    Committing(Box<Removal>),
    /// The aufs side is out of the root, as far as it can be moved, and the first of it is about to be gone for good.
    Removing,
}

/// What was begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beginning {
    /// The journal's form.
    pub version: u32,
    /// The version of the tool.
    pub tool: String,
    /// Seconds since 1970.
    pub at: u64,
    /// The root directory's times before.
    pub root: Times,
    /// What was ordered and planned; the business of the conversion.
    pub order: Value,
}

/// How all is moved in place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwitchPlan {
    /// The steps, in their order.
    pub moves: Vec<Move>,
    /// The times of the directories that the steps change, before.
    pub times: Vec<Times>,
    /// The devicemapper side as it is moved in place, to tell later whether Docker has used it.
    pub written: super::file_digests::FileDigests,
    /// The pool's data then, where they are in a loop file. Earlier versions did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<PoolData>,
    /// The aufs side as it was converted. Earlier versions did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aufs: Option<super::aufs_side::AufsSide>,
    /// How the daemon is told of its new driver, where that was asked for.
    pub daemon: Option<Switch>,
}
