//! What is noted when the removal of the aufs side begins, for the runs that may have to go on with it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::sys::birth;

/// The removal of the aufs side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// When it began, in seconds since 1970. Earlier versions did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// Whether `aufs` stays and is emptied where it is, being a link or a mount point.
    #[serde(default)]
    pub stays: bool,
    /// Which directory that is: no other one is emptied that takes its place meanwhile. Earlier versions did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emptied: Option<Emptied>,
    /// Whether [`Removing`](super::Record::Removing) comes before anything of it is gone. Earlier versions did not write that.
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

/// An `aufs` that is emptied in its place: where a link leads, and which directory it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emptied {
    /// The link's target, as it is written there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    inode: u64,
    /// When the directory was made, which a copy does not have; not every file system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    born: Option<(i64, u32)>,
}

impl Emptied {
    /// The one that is there now; `None` where nothing is to be seen.
    pub(super) fn now(aufs: &Path) -> Option<Self> {
        let real = aufs.canonicalize().ok()?;
        Some(Self {
            link: aufs
                .read_link()
                .ok()
                .map(|link| link.to_string_lossy().into_owned()),
            inode: real.metadata().ok()?.ino(),
            born: birth(&real),
        })
    }
}
