//! Planned ext4 images judged by e2fsck and by the kernel's ext4.

use std::collections::HashMap;
use std::fs;

use aufs2dm::ext4::{Checksums, Image};
use aufs2dm::tree::{Kind, LayerTree, NodeId};

use crate::ext4_disk::{Disk, params};
use crate::ext4_layers::{Numbers, Taste, file, flat_layer, plain_meta, random_layer};
use crate::ext4_model::{Model, fill};

const BOTH: [Checksums; 2] = [Checksums::GroupDescriptors, Checksums::Metadata];

/// A chain of images, the file that holds the last one, and what should be in it.
struct Chain {
    image: Image,
    disk: Disk,
    model: Model,
    layers: u64,
}

impl Chain {
    fn new(mib: u32, checksums: Checksums) -> Self {
        let mut formatted = Image::format(params(mib, checksums)).unwrap();
        let disk = Disk::new(&formatted);
        formatted.1 = Default::default();
        Self {
            image: formatted.0,
            disk,
            model: Model::new(),
            layers: 0,
        }
    }

    fn apply(&mut self, layer: &LayerTree) -> aufs2dm::ext4::Delta {
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
    fn judge(&self) {
        self.disk.check();
        let mounted = self.disk.mount("ro,noload");
        self.model.compare(&mounted.path().join("rootfs"));
    }
}

#[test]
fn an_empty_image_is_clean_at_any_size() {
    for checksums in BOTH {
        for mib in [32, 64, 127, 128, 500, 2051, 10_240, 20_000, 40_960] {
            let formatted = Image::format(params(mib, checksums)).unwrap();
            let disk = Disk::new(&formatted);
            disk.check();
            let mounted = disk.mount("ro,noload");
            let names: Vec<_> = fs::read_dir(mounted.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert_eq!(names, ["lost+found"], "{mib} MiB");
        }
    }
}

#[test]
fn random_chains_are_clean_and_equal_to_their_model() {
    for (seed, checksums) in (0..).zip(BOTH) {
        let mut numbers = Numbers::new(seed);
        let mut chain = Chain::new(1024, checksums);
        for _ in 0..12 {
            let taste = Taste {
                changes: [3, 40, 400][usize::try_from(numbers.below(3)).unwrap()],
                name_bytes: [3, 30, 255][usize::try_from(numbers.below(3)).unwrap()],
            };
            let layer = random_layer(&mut numbers, &chain.model, &taste);
            chain.apply(&layer);
            chain.judge();
        }
    }
}
