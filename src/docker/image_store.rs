//! The image store as a whole: `image/<driver>`.

use std::collections::HashSet;

use super::diagnostics::{Diagnostics, Subject};
use super::files::Dir;
use super::image::Images;
use super::image_names::ImageNames;
use super::layer::Layers;
use super::mount::Mounts;
use super::warning::Warning;

/// Everything that an image store holds about images, their names and layers, and the layers of containers.
#[derive(Debug, Default)]
pub(crate) struct ImageStore {
    pub(crate) images: Images,
    pub(crate) names: ImageNames,
    pub(crate) layers: Layers,
    pub(crate) mounts: Mounts,
}

impl ImageStore {
    /// Reads a store, each part by itself.
    pub(crate) fn read(image: &Dir, notes: &mut Diagnostics) -> Self {
        let mut store = Self::read_parts(image, notes);
        store.report(notes);
        store
    }

    /// Reports damaged records of layers and mounts.
    pub(super) fn report(&mut self, notes: &mut Diagnostics) {
        self.layers.report(notes);
        self.mounts.report(notes);
    }

    /// [`read`](Self::read), without reporting damaged records, which can still be repaired.
    pub(super) fn read_parts(image: &Dir, notes: &mut Diagnostics) -> Self {
        let layerdb = notes.keep(&Subject::Root, image.dir("layerdb"));
        // One look at the directory for both, so that its fault is named once.
        let (layers, mounts) = match &layerdb {
            Some(layerdb) => (Layers::read(layerdb, notes), Mounts::read(layerdb, notes)),
            None => (Layers::default(), Mounts::default()),
        };
        Self {
            images: Images::read(image, notes),
            names: ImageNames::read(image, notes),
            layers,
            mounts,
        }
    }

    /// Warns about images that Docker does not show and about names without an image.
    pub(crate) fn check_images(&self, notes: &mut Diagnostics) {
        for (&image, config) in &self.images.by_id {
            if let Some(chain) = config.top.filter(|top| !self.layers.present.contains(top)) {
                notes.warn(Warning::ImageWithoutLayers { image, chain });
            }
        }
        let damaged: HashSet<_> = notes
            .faults
            .iter()
            .map(|(subject, _)| subject.clone())
            .collect();
        for (reference, &image) in &self.names.references {
            if !self.images.by_id.contains_key(&image) && !damaged.contains(&Subject::Image(image))
            {
                let reference = reference.clone();
                notes.warn(Warning::DanglingReference { reference, image });
            }
        }
    }
}
