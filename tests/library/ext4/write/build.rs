//! Plain layers of any size, shared by the tests and the benchmark of plans.

#![allow(clippy::unwrap_used)] // a test reports by panicking

use aufs2dm::ext4::write::{Delta, Image};
use aufs2dm::tree::{Kind, LayerTree, Listing, Meta, NodeId, Regular, Timestamp};

/// Attributes that nothing in a test depends on.
pub(crate) fn plain_meta(mode: u16) -> Meta {
    let time = Timestamp::new(1_600_000_000, 1);
    Meta {
        mode,
        atime: time,
        mtime: time,
        ctime: time,
        ..Meta::default()
    }
}

/// A file of this size without holes.
pub(crate) fn file(size: u64) -> Kind {
    Kind::Regular(Regular {
        size,
        segments: None,
    })
}

pub(crate) fn directory() -> Kind {
    Kind::Directory(Box::default())
}

/// A layer whose root holds these names.
pub(crate) fn flat_layer(entries: impl Iterator<Item = (Vec<u8>, Kind)>) -> LayerTree {
    let mut layer = LayerTree::new(plain_meta(0o755));
    let entries = entries
        .map(|(name, kind)| (name.into(), layer.add(plain_meta(0o644), kind)))
        .collect();
    set(&mut layer, LayerTree::ROOT, entries);
    layer
}

pub(crate) fn set(layer: &mut LayerTree, id: NodeId, entries: Vec<(Box<[u8]>, NodeId)>) {
    let listing = Listing {
        entries,
        ..Listing::default()
    };
    layer.set_directory(id, listing);
}

/// A layer of directories with a hundred files each, as in a system's packages.
pub(crate) fn many_files(nr_files: u32, bytes: u64) -> LayerTree {
    let mut layer = LayerTree::new(plain_meta(0o755));
    let mut folders = Vec::new();
    for folder in 0..nr_files / 100 {
        let id = layer.add(plain_meta(0o755), directory());
        let names = (0..100).map(|at| format!("libsomething-{at}.so").into_bytes().into());
        let entries = names
            .map(|name| (name, layer.add(plain_meta(0o644), file(bytes))))
            .collect();
        set(&mut layer, id, entries);
        folders.push((format!("folder{folder:06}").into_bytes().into(), id));
    }
    set(&mut layer, LayerTree::ROOT, folders);
    layer
}

/// A layer that replaces one file.
pub(crate) fn one_file(nth: u32, folders: u32) -> LayerTree {
    let mut layer = LayerTree::new(plain_meta(0o755));
    let changed = layer.add(plain_meta(0o644), file(5000));
    let folder = layer.add(plain_meta(0o755), directory());
    let name = format!("libsomething-{}.so", nth * 7 % 100);
    set(
        &mut layer,
        folder,
        vec![(name.into_bytes().into(), changed)],
    );
    let name = format!("folder{:06}", nth.wrapping_mul(2_654_435_761) % folders);
    let listing = Listing {
        entries: vec![(name.into_bytes().into(), folder)],
        ..Listing::default()
    };
    layer.set_directory(LayerTree::ROOT, listing);
    layer
}

/// The image with the layer on top.
pub(crate) fn child(image: &Image, layer: &LayerTree) -> (Image, Delta) {
    let mut draft = image.draft();
    draft.apply(b"rootfs", layer).unwrap();
    draft.finish()
}
