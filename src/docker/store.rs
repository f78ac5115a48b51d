//! The layers of a root as its image store and its containers know them, whatever the driver.
//!
//! [`Survey`](super::survey::Survey) decides whether an aufs root can be converted. This module only reports which
//! layers exist in a root before its conversion, after it, or in between, and what of it cannot be read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::diagnostics::{Diagnostics, Subject};
use super::driver::is_aufs;
use super::files::{Dir, ReadError};
use super::id::{CacheId, ChainId};
use super::image_store::ImageStore;
use super::model::Use;
use super::problem::Problem;
use super::stores::{Repairs, StoreDirs, Stores};
use super::survey::settle;
use super::users::{Hits, Users};
use super::warning::Warning;

/// A layer of the driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // facts that do not depend on each other
pub struct KnownLayer {
    /// Its parent. `None`: it has none, or no store names it.
    pub parent: Option<CacheId>,
    /// Whether a store says what its parent is.
    pub parent_known: bool,
    /// Its direct users.
    pub uses: Vec<Use>,
    /// Whether aufs has this layer.
    pub in_aufs: bool,
    /// Whether aufs has no branch of it because its digest says that it is empty.
    pub is_empty: bool,
    /// Whether only a partly removed container names it: one that is marked dead or has no config. Docker works without
    /// its layers.
    pub of_removed: bool,
}

impl KnownLayer {
    /// The layer's chain id in the image store, if it is an image layer.
    pub fn chain(&self) -> Option<ChainId> {
        self.uses.iter().find_map(|used| match used {
            Use::ImageLayer(chain) => Some(*chain),
            _ => None,
        })
    }
}

/// The paths of a root's parts. Until a result is moved into place, they are not all below one directory.
#[derive(Clone, Copy, Debug)]
pub struct StorePaths<'a> {
    /// The root, in which `containers` and `buildkit` are looked up.
    pub root: &'a Path,
    /// The image store: `image/aufs` or `image/devicemapper`, or a copy of it.
    pub image: &'a Path,
    /// The aufs driver's directory, if there is one.
    pub aufs: Option<&'a Path>,
}

/// The layers of a root.
#[derive(Debug)]
pub struct Store {
    /// The image store's layers.
    pub layers: BTreeMap<ChainId, super::layer::Layer>,
    /// All layers that a store names or aufs has.
    pub known: BTreeMap<CacheId, KnownLayer>,
    /// What could not be read or is inconsistent.
    pub problems: Vec<Problem>,
    image: Dir,
    users: Users,
}

impl Store {
    /// Reads the stores. Damage to parts of them is reported in [`problems`](Self::problems).
    ///
    /// # Errors
    ///
    /// One of the directories cannot be opened.
    pub fn read(paths: StorePaths<'_>) -> Result<Self, ReadError> {
        let root = Dir::open(paths.root)?;
        let image = Dir::open(paths.image)?;
        let aufs = paths.aufs.map(Dir::open).transpose()?;
        let mut notes = Diagnostics::default();
        let dirs = StoreDirs {
            root: &root,
            image: Some(&image),
            aufs: aufs.as_ref(),
        };
        let stores = Stores::read(dirs, is_of_either_driver, Repairs::Lists, &mut notes);
        stores.image.layers.check(&mut notes);
        stores.check_mount_parents(&mut notes);
        let users = stores.users();
        let mut known = known_layers(&stores);
        for layer in known.values_mut() {
            let of_removed = |used: &Use| match used {
                Use::Init(id) | Use::Writable(id) => {
                    users.hits(&Subject::Mount(id.clone())).is_empty()
                }
                _ => false,
            };
            layer.of_removed = !layer.uses.is_empty() && layer.uses.iter().all(of_removed);
        }
        let (problems, _) = settle(notes, &users, &stores.stack);
        Ok(Self {
            layers: stores.image.layers.sound,
            known,
            problems,
            image,
            users,
        })
    }

    /// The images and containers that need a layer.
    pub fn users_of(&self, id: &CacheId) -> Hits {
        self.users.of_layer(id)
    }

    /// The path of a layer's `tar-split.json.gz`, whether or not it exists.
    pub fn tar_split(&self, chain: &ChainId) -> PathBuf {
        let layers = self.image.join("layerdb/sha256");
        layers.join(chain.file_name()).join("tar-split.json.gz")
    }

    /// Opens a layer's `tar-split.json.gz`; `None` if it does not exist or is empty.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or is not a regular file.
    pub fn open_tar_split(&self, chain: &ChainId) -> Result<Option<File>, ReadError> {
        let layers = self.image.dir("layerdb")?.dir("sha256")?;
        let Some(layer) = layers.dir_if_any(chain.file_name())? else {
            return Ok(None);
        };
        match layer.file("tar-split.json.gz") {
            // One that is empty says as much as none.
            Ok(file) if file.metadata().is_ok_and(|meta| meta.len() == 0) => Ok(None),
            Ok(file) => Ok(Some(file)),
            Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether a container belongs to a root that is converted, or about to be.
pub(crate) fn is_of_either_driver(driver: &str) -> bool {
    is_aufs(driver) || driver == "devicemapper"
}

/// Images of a store that Docker drops when it starts, because their configs do not match their digests, and names of
/// images that do not exist; one text each.
///
/// # Errors
///
/// The store cannot be opened.
pub fn unsound_images(image: &Path) -> Result<Vec<String>, ReadError> {
    let notes = notes_of_images(image)?;
    let is_unsound = |warning: &&Warning| {
        matches!(
            warning,
            Warning::ImageUnverified { .. } | Warning::DanglingReference { .. }
        )
    };
    let unsound = notes.warnings.iter().filter(is_unsound);
    Ok(unsound.map(ToString::to_string).collect())
}

/// The images of a store whose top layers do not exist, each with a message. Docker registers layers before the image
/// that needs them and removes them after it, so it never leaves such an image. Source: moby v20.10
/// `distribution/pull_v2.go`, `image/store.go`.
///
/// # Errors
///
/// The store cannot be opened.
pub fn images_without_layers(image: &Path) -> Result<BTreeMap<String, String>, ReadError> {
    let notes = notes_of_images(image)?;
    let without = notes.warnings.iter().filter_map(|warning| match warning {
        Warning::ImageWithoutLayers { image, .. } => Some((image.to_string(), warning.to_string())),
        _ => None,
    });
    Ok(without.collect())
}

fn notes_of_images(image: &Path) -> Result<Diagnostics, ReadError> {
    let store = Dir::open(image)?;
    let mut notes = Diagnostics::default();
    ImageStore::read(&store, &mut notes).check_images(&mut notes);
    Ok(notes)
}

fn known_layers(stores: &Stores) -> BTreeMap<CacheId, KnownLayer> {
    let mut known: BTreeMap<CacheId, KnownLayer> = BTreeMap::new();
    let cache_of = |chain: &ChainId| {
        stores
            .image
            .layers
            .sound
            .get(chain)
            .map(|layer| &layer.cache)
    };
    let mut on = |id: &CacheId, parent: Option<&CacheId>, used: Use| {
        let layer = known.entry(id.clone()).or_default();
        layer.parent = parent.cloned();
        layer.parent_known = true;
        layer.uses.push(used);
    };
    for (&chain, layer) in &stores.image.layers.sound {
        let parent = layer.parent.as_ref().and_then(cache_of);
        on(&layer.cache, parent, Use::ImageLayer(chain));
    }
    for (id, mount) in &stores.image.mounts.sound {
        let mut below = mount.parent.as_ref().and_then(cache_of);
        if let Some(init) = &mount.init {
            on(init.cache_id(), below, Use::Init(id.clone()));
            below = Some(init.cache_id());
        }
        on(mount.rw.cache_id(), below, Use::Writable(id.clone()));
    }
    // If both name a parent, aufs is right: BuildKit may have built a parent twice.
    for (place, listed) in stores.stack.layers.iter().enumerate() {
        let layer = known.entry(listed.id.clone()).or_default();
        layer.is_empty = listed.is_empty;
        layer.in_aufs = listed.sound && !listed.is_empty;
        if listed.sound {
            layer.parent = stores.stack.parent_of(place).cloned();
            layer.parent_known = true;
        }
        if layer.uses.is_empty() && stores.buildkit && listed.id.is_buildkit() {
            layer.uses.push(Use::BuildKit);
        }
    }
    known
}
