//! The writable sides of containers: `image/aufs/layerdb/mounts`.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::diagnostics::{Diagnostics, Subject};
use super::fault::Fault;
use super::files::Dir;
use super::id::{ChainId, ContainerId, MountId};
use super::image::is_store_dir;
use super::layer::{Below, read_id, read_id_if_any};
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

/// A mount's init layer, if it has one.
pub(super) type InitId = Option<MountId>;

/// A file of a mount's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MountFile {
    MountId,
    InitId,
    Parent,
}

impl MountFile {
    /// The file's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MountId => "mount-id",
            Self::InitId => "init-id",
            Self::Parent => "parent",
        }
    }
}

/// A mount's record with damaged files: what the others say, and what is wrong.
#[derive(Debug, Default)]
pub(super) struct DamagedMount {
    pub(super) rw: Option<MountId>,
    pub(super) init: Option<InitId>,
    pub(super) parent: Option<Below>,
    /// What is wrong; `None` for the record as a whole.
    pub(super) faults: Vec<(Option<MountFile>, Fault)>,
}

/// The mount store.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    pub(crate) sound: BTreeMap<ContainerId, Mount>,
    /// Records with a damaged file.
    pub(super) damaged: BTreeMap<ContainerId, DamagedMount>,
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
            let record = match store.dir(&entry.name) {
                Ok(dir) => DamagedMount::read(&dir),
                Err(error) => DamagedMount {
                    faults: vec![(None, error.into())],
                    ..DamagedMount::default()
                },
            };
            match record.sound() {
                Some(mount) => {
                    mounts.sound.insert(id, mount);
                }
                None => {
                    mounts.damaged.insert(id, record);
                }
            }
        }
        mounts
    }

    /// Reports the damaged records.
    pub(super) fn report(&mut self, notes: &mut Diagnostics) {
        for (id, record) in std::mem::take(&mut self.damaged) {
            for (_, fault) in record.faults {
                notes.fault(Subject::Mount(id.clone()), fault);
            }
        }
    }

    /// A mount's directory, for messages.
    pub(super) fn dir_of(&self, id: &ContainerId) -> PathBuf {
        self.path.join(id.as_str())
    }
}

impl DamagedMount {
    /// Reads one mount's files. Records all of its faults, not only the first.
    fn read(dir: &Dir) -> Self {
        let mut record = Self::default();
        record.rw = record.keep(MountFile::MountId, read_id(dir, "mount-id", MountId::parse));
        let init = read_id_if_any(dir, "init-id", MountId::parse);
        record.init = record.keep(MountFile::InitId, init);
        let parent = read_id_if_any(dir, "parent", ChainId::parse);
        record.parent = record.keep(MountFile::Parent, parent);
        record
    }

    fn keep<T>(&mut self, file: MountFile, read: Result<T, Fault>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(fault) => {
                self.faults.push((Some(file), fault));
                None
            }
        }
    }

    /// The mount, if the record has no faults.
    fn sound(&self) -> Option<Mount> {
        if !self.faults.is_empty() {
            return None;
        }
        Some(Mount {
            rw: self.rw.clone()?,
            init: self.init.clone()?,
            parent: self.parent?,
        })
    }
}
