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
    /// Whether they are the same, as far as both tell: a kernel before Linux 4.11 does not tell when a directory was made.
    pub(super) fn is(&self, other: &Self) -> bool {
        let both_born = self.born.zip(other.born);
        (&self.link, self.inode) == (&other.link, other.inode)
            && both_born.is_none_or(|(own, others)| own == others)
    }

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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn another_directory_or_another_link_is_not_the_one_that_was_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let [aufs, disk, copy] = ["aufs", "disk", "copy"].map(|name| dir.path().join(name));
        fs::create_dir(&disk).unwrap();
        fs::create_dir(&copy).unwrap();
        symlink(&disk, &aufs).unwrap();
        let was = Emptied::now(&aufs).unwrap();
        assert!(Emptied::now(&aufs).unwrap().is(&was));
        let untold = Emptied {
            born: None,
            ..was.clone()
        };
        assert!(Emptied::now(&aufs).unwrap().is(&untold));
        let born_later = Emptied {
            born: was
                .born
                .map(|(seconds, nanoseconds)| (seconds + 1, nanoseconds)),
            ..was.clone()
        };
        assert_eq!(born_later.is(&was), was.born.is_none());
        fs::rename(&disk, dir.path().join("old")).unwrap();
        assert!(Emptied::now(&aufs).is_none());
        fs::rename(&copy, &disk).unwrap();
        assert!(!Emptied::now(&aufs).unwrap().is(&was));
        fs::remove_file(&aufs).unwrap();
        symlink(dir.path().join("old"), &aufs).unwrap();
        assert!(!Emptied::now(&aufs).unwrap().is(&was));
    }
}
