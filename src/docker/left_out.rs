//! What a conversion leaves out because it is damaged: the objects themselves, and everything that is built on them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::diagnostics::Subject;
use super::id::{CacheId, ChainId, ContainerId, ImageId};

/// The objects that a conversion leaves out. The original side keeps all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Images. The new side has neither their configs nor their names.
    pub images: BTreeSet<ImageId>,
    /// Containers. Their configs stay as they are, so they keep their driver, and Docker ignores them.
    pub containers: BTreeSet<ContainerId>,
    /// Layers of the driver. They get no devices.
    pub layers: BTreeSet<CacheId>,
    /// Records of image layers that the new store does not have.
    pub(super) chains: BTreeSet<ChainId>,
    /// Records of containers' layers that the new store does not have.
    pub(super) mounts: BTreeSet<ContainerId>,
}

impl LeftOut {
    /// Whether everything is converted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds an object.
    pub(super) fn add(&mut self, subject: &Subject) {
        match subject {
            Subject::Root | Subject::References => {}
            Subject::Image(id) => {
                self.images.insert(*id);
            }
            Subject::Chain(chain) => {
                self.chains.insert(*chain);
            }
            Subject::Cache(id) => {
                self.layers.insert(id.clone());
            }
            Subject::Mount(id) => {
                self.mounts.insert(id.clone());
            }
            Subject::Container(id) => {
                self.containers.insert(id.clone());
            }
        }
    }

    /// The directories and files of the image store that belong to what is left out.
    pub(super) fn paths(&self) -> BTreeSet<PathBuf> {
        let chains = self.chains.iter().map(ChainId::file_name);
        let chains = chains.map(|name| Path::new("layerdb/sha256").join(name));
        let mounts = self.mounts.iter().map(ContainerId::as_str);
        let mounts = mounts.map(|name| Path::new("layerdb/mounts").join(name));
        let images = self.images.iter().map(ImageId::file_name);
        let images = images.flat_map(|name| {
            ["content", "metadata"]
                .map(|part| Path::new("imagedb").join(part).join("sha256").join(&name))
        });
        chains.chain(mounts).chain(images).collect()
    }
}
