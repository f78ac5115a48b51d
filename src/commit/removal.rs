//! The record made when the removal of the aufs side begins, for runs that may have to continue it, and the place where
//! the side waits until it is gone.
//!
//! The side waits in the staging directory. An `aufs` that is a link or a mount point cannot be moved there: the
//! driver's part of it waits in a directory with a random name that is created inside `aufs`. So anything else that
//! appears in the place of the aufs side, even another disk, is not mistaken for what is being removed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::pieces::Pieces;
use crate::staging::STAGE_NAME;

/// The removal of the aufs side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// When it began, in seconds since 1970 and nanoseconds. Earlier versions did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<(i64, u32)>,
    /// The directory in `aufs` where the driver's part waits, if `aufs` itself stays because it is a link or a mount
    /// point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<String>,
    /// What the side contained. Earlier versions did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pieces: Option<Pieces>,
    /// Whether [`Removing`](super::record::Record::Removing) is written before anything of it is gone. Earlier versions
    /// did not write that record.
    #[serde(default)]
    pub in_two_steps: bool,
    /// The image store of aufs.
    #[serde(flatten)]
    pub store: StoreOfAufs,
}

/// Facts about the image store of aufs that show, after it is gone, what the copy beside the devices has lost since.
/// Earlier versions did not record them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreOfAufs {
    /// Images without their layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_without_layers: Option<Vec<String>>,
    /// Whether it has a file of image names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_names: Option<bool>,
}

/// The place where an aufs side waits for its removal.
#[derive(Clone, Debug)]
pub(super) struct WaitingPlace {
    /// The directory that has `aufs`, or the driver's part of it, and the piece of it that is being removed.
    pub(super) aufs_in: PathBuf,
    /// The directory that has the image store; the same one unless `aufs` stays.
    pub(super) image_in: PathBuf,
}

/// The name, in these directories, of the place for the piece that is being removed.
pub(super) const GOING: &str = "going";

impl Removal {
    /// Generates a name for [`beside`](Self::beside).
    pub(super) fn draw_name() -> String {
        format!("{STAGE_NAME}-{}", Uuid::new_v4())
    }

    /// Checks that a removal could have written this record: nothing waits in any other directory of `aufs`.
    pub(super) fn expect_sound(&self) -> Result<(), &'static str> {
        let is_drawn = |name: &String| {
            let id = name.strip_prefix(STAGE_NAME);
            let id = id.and_then(|id| id.strip_prefix('-'));
            id.is_some_and(|id| Uuid::parse_str(id).is_ok_and(|uuid| uuid.to_string() == id))
        };
        match &self.beside {
            Some(name) if !is_drawn(name) => Err("it names a directory that no removal uses"),
            _ => Ok(()),
        }
    }

    /// The place where the side waits. There is nothing behind a link or a mount that is gone.
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
    /// The two sides, with the names that [`Pieces`] uses for them.
    pub(super) fn sides(&self) -> [(&'static str, PathBuf); 2] {
        let [aufs, image] = super::pieces::SIDES;
        [
            (aufs, self.aufs_in.join(aufs)),
            (image, self.image_in.join(image)),
        ]
    }

    /// The places for the pieces that are being removed.
    pub(super) fn going(&self) -> Vec<PathBuf> {
        let mut going = vec![self.image_in.join(GOING)];
        if self.aufs_in != self.image_in {
            going.push(self.aufs_in.join(GOING));
        }
        going
    }

    /// Whether part of the aufs side waits here, or may wait here.
    pub(super) fn is_used(&self) -> bool {
        let is_there = |path: &Path| path.symlink_metadata().is_ok();
        let is_beside = self.aufs_in != self.image_in && is_there(&self.aufs_in);
        is_beside || self.sides().iter().any(|(_, path)| is_there(path))
    }
}

/// The name of the directory in the staging directory where the aufs side waits for its removal.
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
