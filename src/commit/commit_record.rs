//! What stays of a conversion when its aufs side is gone: by which version it was made, and on which proof the other copy went.
//!
//! It lies beside the staging directory, which goes. Docker takes no notice of a file of that name.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use super::clock::now;
use super::durable::sync_directory;
use super::error::Error;
use super::journal::JournalState;
use super::regular_files::read_regular;
use super::removal::StoreOfAufs;
use super::verification::VerificationRecord;
use crate::date;
use crate::shell::own;
use crate::verify::LayerDamage;

/// The record's name in the Docker root.
const FILE: &str = ".aufs2dm.json";

/// Where it is written, in the staging directory.
pub(super) const NEW_FILE: &str = "committed.json";

/// A conversion whose aufs side was removed. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRecord {
    /// The version of the tool that began it.
    pub tool: String,
    /// When it was begun.
    pub begun_at: u64,
    /// When the result was in place.
    pub switched_at: Option<u64>,
    /// The proof.
    pub verified: Option<VerificationRecord>,
    /// What was ordered, in the words of whoever did; it tells where the pool is. Earlier versions did not note it.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub order: serde_json::Value,
    /// Layers that were not what Docker once unpacked before they were converted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<LayerDamage>,
    /// The image store of aufs when it went.
    #[serde(flatten)]
    pub store_of_aufs: StoreOfAufs,
    /// When the aufs side was removed.
    pub committed_at: u64,
}

impl CommitRecord {
    /// The record in a root, if there is one that can be read.
    pub fn read(root: &Path) -> Option<Self> {
        let bytes = read_regular(&root.join(FILE)).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Makes sure that nothing is in its place but a record.
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
            store_of_aufs: story.removal.store.clone(),
            committed_at: now(),
        }
    }

    /// Durable on return.
    pub(super) fn write(&self, root: &Path, stage: &Path) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self).expect("records have text keys only");
        let (new, path) = (stage.join(NEW_FILE), root.join(FILE));
        // Closed to others like all in the staging directory; one that a kill has torn is written anew.
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&new)
            .map_err(Error::io(&new, "create"))?;
        file.write_all((text + "\n").as_bytes())
            .map_err(Error::io(&new, "write"))?;
        file.sync_all().map_err(Error::io(&new, "sync"))?;
        fs::rename(&new, &path).map_err(Error::io(&path, "write"))?;
        sync_directory(root)
    }

    /// What there is to say of the root, with what can be done still.
    pub fn meaning(&self, root: &Path) -> String {
        format!(
            "was converted by aufs2dm {}, and committed on {}: the aufs side is gone, and there is no way back; Docker uses the devicemapper side, `{}` shows it, `{}` checks it",
            self.tool.escape_debug(),
            date::utc(self.committed_at),
            own("inspect", root),
            own("verify --full", root)
        )
    }
}
