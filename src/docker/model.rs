//! A root's images, containers and layers, checked against each other.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Serialize;

use super::container::Container;
use super::id::{CacheId, ChainId, ContainerId, ImageId};
use super::image::Image;
use super::image_names::ImageNames;
use super::layer::Layer;
use super::left_out::LeftOut;
use super::mount::Mount;
use super::problem::Problem;
use super::reference::Reference;
use super::repair::RecordChange;
use super::users::{Hits, Users};
use super::warning::Warning;

/// What refers to an aufs layer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// A layer of the image store.
    ImageLayer(ChainId),
    /// The init layer of a mount.
    Init(ContainerId),
    /// The writable layer of a mount.
    Writable(ContainerId),
    /// The build cache, by the form of its id.
    BuildKit,
    /// An image in `graph/`: a remnant of the store before Docker 1.10.
    Graph,
    /// A container from before Docker 1.10 that was never migrated.
    LegacyContainer(ContainerId),
}

/// Why nothing refers to a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrphanReason {
    /// Its deletion did not finish.
    Removal,
    /// An init layer whose container is gone.
    InitWithoutContainer,
    /// It has the form of the build cache's ids, but there is no build cache.
    NoBuildCache,
    /// No store names it.
    Unreferenced,
}

impl fmt::Display for OrphanReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Removal => "its deletion did not finish",
            Self::InitWithoutContainer => "its container is missing",
            Self::NoBuildCache => "the build cache is missing",
            Self::Unreferenced => "no store names it",
        })
    }
}

/// A layer of the aufs driver that can be converted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AufsLayer {
    /// Its directory's name.
    pub id: CacheId,
    /// The index of its direct parent in [`Model::aufs`], always lower than its own.
    pub parent: Option<usize>,
    /// Its direct users.
    pub uses: Vec<Use>,
    /// Whether it has no branch because its digest says that it is empty.
    pub is_empty: bool,
    /// Why it is an orphan; `None` if it or a layer on top of it is in use.
    pub orphan: Option<OrphanReason>,
}

/// The whole model. Every layer in [`aufs`](Self::aufs) has a branch directory and comes after its parent.
#[derive(Debug)]
pub struct Model {
    /// Images with a readable config.
    pub images: BTreeMap<ImageId, Image>,
    /// Names of images.
    pub references: BTreeMap<Reference, ImageId>,
    /// The layer store.
    pub layers: BTreeMap<ChainId, Layer>,
    /// The mount store; it also holds mounts without a container and mounts of build steps.
    pub mounts: BTreeMap<ContainerId, Mount>,
    /// Containers with a readable config, of any driver.
    pub containers: BTreeMap<ContainerId, Container>,
    /// The driver's layers, parents first.
    pub aufs: Vec<AufsLayer>,
    /// Whether there is a build cache.
    pub buildkit: bool,
    /// What the operator should know.
    pub warnings: Vec<Warning>,
    /// What is wrong, and what becomes of it.
    pub problems: Vec<Problem>,
    /// What is not converted because it is damaged.
    pub left_out: LeftOut,
    pub(super) names: ImageNames,
    /// Files of the image store that repairs change.
    pub(super) changes: Vec<RecordChange>,
    pub(super) users: Users,
    pub(super) index: HashMap<CacheId, usize>,
}

impl Model {
    /// A layer's index in [`aufs`](Self::aufs).
    pub fn place_of(&self, id: &CacheId) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// The images and containers that need an aufs layer, for messages.
    pub fn users_of(&self, id: &CacheId) -> Hits {
        self.users.of_layer(id)
    }

    /// The names of an image, tags before digests.
    pub fn references_of(&self, image: ImageId) -> &[Reference] {
        self.users.references_of(image)
    }

    /// An image's layers as driver ids, bottom first; `None` if one of them is not in the layer store.
    pub fn layers_of(&self, image: &Image) -> Option<Vec<&CacheId>> {
        let mut ids = Vec::with_capacity(image.nr_layers);
        let mut chain = image.top;
        while let Some(at) = chain {
            // A store whose parents form a circle was reported before; this only ends the loop.
            if ids.len() == image.nr_layers {
                return None;
            }
            let layer = self.layers.get(&at)?;
            ids.push(&layer.cache);
            chain = layer.parent;
        }
        ids.reverse();
        Some(ids)
    }

    /// Keeps the layers for which `keep` returns `true`, and renumbers them. The parent of a kept layer must be kept.
    pub(super) fn retain(&mut self, keep: impl Fn(&AufsLayer) -> bool) {
        let mut places = vec![None; self.aufs.len()];
        let mut kept = Vec::with_capacity(self.aufs.len());
        for (place, mut layer) in std::mem::take(&mut self.aufs).into_iter().enumerate() {
            if keep(&layer) {
                places[place] = Some(kept.len());
                layer.parent = layer.parent.and_then(|parent| places[parent]);
                kept.push(layer);
            }
        }
        self.aufs = kept;
        self.index = self
            .aufs
            .iter()
            .enumerate()
            .map(|(place, layer)| (layer.id.clone(), place))
            .collect();
    }
}
