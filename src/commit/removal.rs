//! What is noted when the removal of the aufs side begins, for the runs that may have to go on with it, and where it waits until it is gone.
//!
//! It waits in the staging directory. An `aufs` that is a link or a mount point cannot be moved there: what is the driver's in it waits in a
//! directory that is made beside it, of a name drawn by chance. So whatever else appears in the place of the aufs side, be it another disk,
//! is not what is being removed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::pieces::Pieces;
use crate::staging::STAGE_NAME;

/// The removal of the aufs side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// When it began, in seconds since 1970 and nanoseconds. Earlier versions did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<(i64, u32)>,
    /// The directory in `aufs` in which what is the driver's waits, where `aufs` itself stays, being a link or a mount point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<String>,
    /// What there was. Earlier versions did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pieces: Option<Pieces>,
    /// Whether [`Removing`](super::record::Record::Removing) comes before anything of it is gone. Earlier versions did not write that.
    #[serde(default)]
    pub in_two_steps: bool,
    /// The image store of aufs.
    #[serde(flatten)]
    pub store: StoreOfAufs,
}

/// What of the image store of aufs tells, when that is gone, what the copy beside the devices lost since. Earlier versions did not note it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreOfAufs {
    /// Images without their layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_without_layers: Option<Vec<String>>,
    /// Whether it has a file of names of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_names: Option<bool>,
}

/// Where an aufs side waits for its removal.
#[derive(Clone, Debug)]
pub(super) struct WaitingPlace {
    /// The directory that has `aufs`, or what was the driver's in it, and the piece of it that is being removed.
    pub(super) aufs_in: PathBuf,
    /// The one that has the image store; the same as long as `aufs` does not stay.
    pub(super) image_in: PathBuf,
}

/// Where the piece is that is being removed, in one of those.
pub(super) const GOING: &str = "going";

impl Removal {
    /// A name for [`beside`](Self::beside).
    pub(super) fn draw_name() -> String {
        format!("{STAGE_NAME}-{}", Uuid::new_v4())
    }

    /// Makes sure that a removal notes such a record: no other directory of `aufs` is one in which something waits.
    pub(super) fn expect_sound(&self) -> Result<(), &'static str> {
        let is_drawn = |name: &String| {
            let id = name.strip_prefix(STAGE_NAME);
            let id = id.and_then(|id| id.strip_prefix('-'));
            id.is_some_and(|id| Uuid::parse_str(id).is_ok_and(|uuid| uuid.to_string() == id))
        };
        match &self.beside {
            Some(name) if !is_drawn(name) => {
                Err("it names no directory in which a removal lets something wait")
            }
            _ => Ok(()),
        }
    }

    /// Where it waits. Behind a link or a mount that is gone there is nothing.
    pub(super) fn waiting(&self, root: &Path, stage: &Path) -> WaitingPlace {
        let removed = stage.join(REMOVED);
        let aufs = root.join("aufs");
        let beside = self.beside.as_ref();
        WaitingPlace {
            aufs_in: beside.map_or_else(
                || removed.clone(),
                |name| aufs.canonicalize().unwrap_or(aufs).join(name),
            ),
            image_in: removed,
        }
    }
}

impl WaitingPlace {
    /// The two sides, by the names that [`Pieces`] gives them.
    pub(super) fn sides(&self) -> [(&'static str, PathBuf); 2] {
        let [aufs, image] = super::pieces::SIDES;
        [
            (aufs, self.aufs_in.join(aufs)),
            (image, self.image_in.join(image)),
        ]
    }

    /// Where the pieces are that are being removed.
    pub(super) fn going(&self) -> Vec<PathBuf> {
        let mut going = vec![self.image_in.join(GOING)];
        if self.aufs_in != self.image_in {
            going.push(self.aufs_in.join(GOING));
        }
        going
    }

    /// Whether something of the aufs side waits here, or may.
    pub(super) fn is_used(&self) -> bool {
        let is_there = |path: &Path| path.symlink_metadata().is_ok();
        let is_beside = self.aufs_in != self.image_in && is_there(&self.aufs_in);
        is_beside || self.sides().iter().any(|(_, path)| is_there(path))
    }
}

/// Where the aufs side waits for its removal, in the staging directory.
pub(super) const REMOVED: &str = "removed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_was_drawn_is_one_of_a_directory_in_which_something_waits() {
        let removal = |name: &str| Removal {
            beside: Some(name.to_owned()),
            ..Removal::default()
        };
        assert!(removal(&Removal::draw_name()).expect_sound().is_ok());
        assert!(Removal::default().expect_sound().is_ok());
        let id = Uuid::nil();
        for name in [
            String::new(),
            "diff".to_owned(),
            format!("../{STAGE_NAME}-{id}"),
            format!("{STAGE_NAME}-{id}/.."),
            format!("{STAGE_NAME}-{}", id.simple()),
            format!("{STAGE_NAME}-../../{id}"),
            id.to_string(),
        ] {
            assert!(removal(&name).expect_sound().is_err(), "{name}");
        }
    }
}
