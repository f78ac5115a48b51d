//! A chain of images and what should be in the last one.

#![allow(clippy::unwrap_used)] // a test reports by panicking

use aufs2dm::ext4::write::{Delta, Image};
use aufs2dm::ext4::{Checksums, Params};
use aufs2dm::tree::{Kind, LayerTree, NodeId};

use super::disk::{Disk, params};
use super::model::{Model, fill};

/// A chain of images, the file that holds the last one, and what should be in it.
pub(crate) struct Chain {
    pub(crate) image: Image,
    pub(crate) disk: Disk,
    pub(crate) model: Model,
    layers: u64,
}

impl Chain {
    pub(crate) fn new(mib: u32, checksums: Checksums) -> Self {
        Self::with(params(mib, checksums))
    }

    pub(crate) fn with(params: Params) -> Self {
        let formatted = Image::format(params).unwrap();
        let disk = Disk::new(&formatted);
        Self {
            image: formatted.0,
            disk,
            model: Model::new(),
            layers: 0,
        }
    }

    pub(crate) fn apply(&mut self, layer: &LayerTree) -> Delta {
        self.layers += 1;
        let seed = |node: NodeId| self.layers << 32 | node.index() as u64;
        let mut draft = self.image.draft();
        draft.apply(b"rootfs", layer).unwrap();
        let (image, delta) = draft.finish();
        self.disk.write(&image, &delta, |run, out| {
            let Kind::Regular(file) = &layer.node(run.node).kind else {
                panic!("only files have data")
            };
            fill(file, seed(run.node), run.logical.into(), out);
        });
        self.model.apply(layer, seed);
        self.image = image;
        delta
    }

    /// Fails unless e2fsck is content and the kernel shows what the model has.
    pub(crate) fn judge(&self) {
        self.disk.check();
        let mounted = self.disk.mount("ro,noload");
        self.model.compare(&mounted.path().join("rootfs"));
    }
}
