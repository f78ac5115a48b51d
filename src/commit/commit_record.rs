//! The record that outlasts a conversion whose aufs side is gone: which version made it, and on which proof the other
//! copy was removed.
//!
//! It is stored beside the staging directory, which is removed. Docker ignores a file of that name.

use std::io::{self};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::clock::now;
use super::error::Error;
use super::journal::JournalState;
use super::regular_files::read_regular;
use super::removal::StoreOfAufs;
use super::verification::VerificationRecord;
use crate::date;
use crate::docker::DamageRecord;
use crate::durable;
use crate::shell::own;
use crate::verify::LayerDamage;

/// The record's name in the Docker root.
const FILE: &str = ".aufs2dm.json";

/// The name under which it is first written, in the staging directory.
pub(super) const NEW_FILE: &str = "committed.json";

/// A conversion whose aufs side was removed. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRecord {
    /// The version of the tool that started it.
    pub tool: String,
    /// When it was started.
    pub begun_at: u64,
    /// When the result was moved into place.
    pub switched_at: Option<u64>,
    /// The verification that proved it.
    pub verified: Option<VerificationRecord>,
    /// The options, as their recorder stored them; they include the location of the pool. Earlier versions did not
    /// record them.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub order: serde_json::Value,
    /// Layers that already differed from what Docker had unpacked before they were converted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<LayerDamage>,
    /// What was damaged on the aufs side when it was converted, and what became of it. Earlier versions left nothing out.
    #[serde(default, skip_serializing_if = "DamageRecord::is_empty")]
    pub before: DamageRecord,
    /// The image store of aufs at its removal.
    #[serde(flatten)]
    pub store_of_aufs: StoreOfAufs,
    /// When the aufs side was removed.
    pub committed_at: u64,
}

impl CommitRecord {
    /// The record in a root, if there is a readable one.
    pub fn read(root: &Path) -> Option<Self> {
        let bytes = read_regular(&root.join(FILE)).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Checks that its place is free or taken by such a record.
    ///
    /// # Errors
    ///
    /// [`Error::RecordInTheWay`].
    pub(super) fn expect_place(root: &Path) -> Result<(), Error> {
        let path = root.join(FILE);
        let is_free = match path.symlink_metadata() {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(_) => Self::read(root).is_some(),
        };
        if is_free {
            return Ok(());
        }
        Err(Error::RecordInTheWay {
            root: root.to_owned(),
            path,
        })
    }

    pub(super) fn of(story: &JournalState) -> Self {
        let verified = story.verified.decisive().cloned();
        let switching = story.switching.as_ref();
        let before = switching.and_then(|one| Some(one.aufs.as_ref()?.damage()));
        Self {
            tool: story.begun.tool.clone(),
            begun_at: story.begun.at,
            switched_at: story.switched_at,
            verified: verified.map(|verified| VerificationRecord {
                damaged: Vec::new(),
                ..verified.told()
            }),
            order: story.begun.order.clone(),
            damaged: story.verified.damaged.clone(),
            before: before.cloned().unwrap_or_default(),
            store_of_aufs: story.removal.store.clone(),
            committed_at: now(),
        }
    }

    /// Writes the record; durable on return.
    pub(super) fn write(&self, root: &Path, stage: &Path) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self).expect("records have text keys only");
        let (new, path) = (stage.join(NEW_FILE), root.join(FILE));
        // Closed to others like everything in the staging directory.
        Ok(durable::replace(&path, &new, (text + "\n").as_bytes())?)
    }

    /// The root's state in words, with the commands that are still possible.
    pub fn meaning(&self, root: &Path) -> String {
        format!(
            "was converted by aufs2dm {}, and committed on {}: the aufs side was removed, and there is no way back; \
             Docker uses the devicemapper side, `{}` shows it, `{}` checks it",
            self.tool.escape_debug(),
            date::utc(self.committed_at),
            own("inspect", root),
            own("verify --full", root)
        )
    }
}
