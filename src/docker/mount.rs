//! The writable sides of containers: `image/aufs/layerdb/mounts`.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::diagnostics::{Diagnostics, Subject};
use super::files::Dir;
use super::id::{ChainId, ContainerId, MountId};
use super::image::is_store_dir;
use super::layer::{read_id, read_id_if_any};
use super::warning::{Leftover, Warning};

/// The aufs layers of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its writable layer.
    pub rw: MountId,
    /// Its init layer, which lies between the image and the writable layer.
    pub init: Option<MountId>,
    /// The image's layers; `None` for an image without any.
    pub parent: Option<ChainId>,
}

/// The mount store.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    pub(crate) mounts: BTreeMap<ContainerId, Mount>,
    path: PathBuf,
}

impl Mounts {
    /// Reads the mount store.
    pub(crate) fn read(layerdb: &Dir, notes: &mut Diagnostics) -> Self {
        let mut mounts = Self {
            path: layerdb.join("mounts"),
            ..Self::default()
        };
        // The directory does not exist before the first container.
        let Some(Some(store)) = notes.keep(&Subject::Root, layerdb.dir_if_any("mounts")) else {
            return mounts;
        };
        for entry in notes.keep(&Subject::Root, store.list()).unwrap_or_default() {
            if !is_store_dir(&store, &entry.name, entry.kind, notes) {
                continue;
            }
            let Ok(id) = ContainerId::parse(entry.name.as_bytes()) else {
                let path = store.join(&entry.name);
                notes.warn(Warning::Leftover {
                    path,
                    what: Leftover::Unknown,
                });
                continue;
            };
            let dir = notes.keep(&Subject::Mount(id.clone()), store.dir(&entry.name));
            let mount = dir.and_then(|dir| read_mount(&dir, &id, notes));
            mounts.mounts.extend(mount.map(|mount| (id, mount)));
        }
        mounts
    }

    /// A mount's directory, for messages.
    pub(super) fn dir_of(&self, id: &ContainerId) -> PathBuf {
        self.path.join(id.as_str())
    }
}

fn read_mount(dir: &Dir, id: &ContainerId, notes: &mut Diagnostics) -> Option<Mount> {
    let subject = Subject::Mount(id.clone());
    let rw = notes.keep(&subject, read_id(dir, "mount-id", MountId::parse));
    let init = notes.keep(&subject, read_id_if_any(dir, "init-id", MountId::parse));
    let parent = notes.keep(&subject, read_id_if_any(dir, "parent", ChainId::parse));
    Some(Mount {
        rw: rw?,
        init: init?,
        parent: parent?,
    })
}
