//! Images that a copy of an image store lost, as opposed to those that Docker removed.
//!
//! `docker rmi` first removes an image's metadata, then its config, then those of its layers that nothing else needs.
//! Source: moby v20.10 `image/fs.go`, `Delete`, and `image/store.go`, `Delete`.

use std::collections::HashSet;
use std::path::Path;

use super::diagnostics::Diagnostics;
use super::files::{Dir, ReadError};
use super::id::{ChainId, ImageId};
use super::image::Image;
use super::image_store::ImageStore;
use super::store_edits::StoreEdits;
use crate::shell::word;
use crate::tree::shown;

/// Losses in a copy of an image store that a removal by Docker does not explain, one text each: an image that lacks
/// only its top layer, and one that lacks only its config. `edits` are the differences that the copy was made with.
/// `has_buildkit`: the build cache may keep layers of removed
/// images.
///
/// # Errors
///
/// One of the stores cannot be opened.
pub fn lost_images(
    original: &Path,
    copy: &Path,
    edits: &StoreEdits,
    has_buildkit: bool,
) -> Result<Vec<String>, ReadError> {
    let before = PlacedStore::read(original)?;
    let now = PlacedStore::read(copy)?;
    let needed = now.needed();
    let mut lost = Vec::new();
    for (&image, config) in &before.store.images.by_id {
        if edits.is_left_out(&content_of(Path::new(""), image)) {
            continue;
        }
        let had_layer = config
            .top
            .filter(|top| before.store.layers.present.contains(top));
        let has_layer = had_layer.filter(|top| now.store.layers.present.contains(top));
        if now.store.images.by_id.contains_key(&image) {
            lost.extend(had_layer.filter(|_| has_layer.is_none()).map(|top| {
                let record = |store: &Path| store.join("layerdb/sha256").join(top.file_name());
                told(image, &record(copy), &record(original))
            }));
        } else if now.has_rest_of(image, config, (&needed, has_buildkit)) {
            let content = |store: &Path| content_of(store, image);
            lost.push(told(image, &content(copy), &content(original)));
        }
    }
    Ok(lost)
}

fn told(image: ImageId, path: &Path, original: &Path) -> String {
    format!(
        "{}: is missing, but the rest of image {image}, which Docker removes with it, is there; if `docker rmi` was \
         interrupted, `cp -a {} {}` brings it back, so that it can be removed again",
        shown(path),
        word(original),
        word(path)
    )
}

fn content_of(store: &Path, image: ImageId) -> std::path::PathBuf {
    let contents = store.join("imagedb/content/sha256");
    contents.join(image.file_name())
}

/// An image store and where it is.
struct PlacedStore<'a> {
    path: &'a Path,
    store: ImageStore,
}

impl<'a> PlacedStore<'a> {
    /// Reads a store. Parts of it that cannot be read are reported elsewhere.
    fn read(path: &'a Path) -> Result<Self, ReadError> {
        let dir = Dir::open(path)?;
        // Without it, every image would seem to have lost its layers.
        dir.dir_if_any("layerdb")?;
        Ok(Self {
            path,
            store: ImageStore::read(&dir, &mut Diagnostics::default()),
        })
    }

    /// Layers that existing images, layers on top of them, or containers keep.
    fn needed(&self) -> HashSet<ChainId> {
        let of_images = self.store.images.chains.keys().copied();
        let layers = self.store.layers.sound.values();
        let mounts = self.store.mounts.sound.values();
        of_images
            .chain(layers.filter_map(|layer| layer.parent))
            .chain(mounts.filter_map(|mount| mount.parent))
            .collect()
    }

    /// Whether more is left of an image without its config than Docker's removal leaves.
    fn has_rest_of(
        &self,
        image: ImageId,
        config: &Image,
        (needed, has_buildkit): (&HashSet<ChainId>, bool),
    ) -> bool {
        if content_of(self.path, image).symlink_metadata().is_ok() {
            return false; // It is damaged, which is reported elsewhere.
        }
        let metadata = self.path.join("imagedb/metadata/sha256");
        if metadata.join(image.file_name()).symlink_metadata().is_ok() {
            return true;
        }
        let own = config
            .top
            .filter(|top| !has_buildkit && !needed.contains(top));
        own.is_some_and(|top| self.store.layers.present.contains(&top))
    }
}
