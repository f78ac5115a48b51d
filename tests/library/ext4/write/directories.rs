//! Large directories, made at once and grown by layers, judged by e2fsck and the kernel.

#![allow(clippy::unwrap_used)] // a test reports by panicking

use aufs2dm::ext4::Checksums;
use aufs2dm::tree::{Kind, LayerTree, Listing};

use super::build::{directory, file, flat_layer, plain_meta};
use super::chain::Chain;
use super::images::BOTH;

/// What differs between names that all hash to 0x12484b7e under the tests' seed: found by counting the hashes of five
/// thousand million names.
const COLLIDING: [&str; 18] = [
    "pAvHfA", "30SNNB", "v-leNB", "4LoWTB", "8d57XB", "g6kLaB", "GD-fjB", "SjBmoB", "-r7HsB",
    "3lrI0B", "kI5X4B", "GmmzJC", "Ff7iSC", "yAxsqC", "uoQO2C", "H6nwYD", "YTYcHE", "IZ-vVE",
];

/// A name of 245 bytes.
fn long_name(nth: u32) -> Vec<u8> {
    format!("{nth:0>245}").into_bytes()
}

fn empty_files(names: impl Iterator<Item = Vec<u8>>) -> LayerTree {
    flat_layer(names.map(|name| (name, file(0))))
}

fn removing(names: impl Iterator<Item = Vec<u8>>) -> LayerTree {
    let mut layer = LayerTree::new(plain_meta(0o755));
    let listing = Listing {
        removed: names.map(Into::into).collect(),
        ..Listing::default()
    };
    layer.set_directory(LayerTree::ROOT, listing);
    layer
}

#[test]
fn nine_thousand_long_names_take_two_levels() {
    for checksums in BOTH {
        let mut chain = Chain::new(256, checksums);
        chain.apply(&empty_files((0..9000).map(long_name)));
        chain.judge();
        let index = chain.disk.debugfs("htree_dump /rootfs");
        assert!(index.contains("Indirect levels: 1"), "{index:.300}");
    }
}

#[test]
fn names_added_layer_by_layer_split_leaves_and_nodes() {
    for checksums in BOTH {
        let mut chain = Chain::new(512, checksums);
        chain.apply(&empty_files((0..10).map(long_name)));
        for (layer, names) in [(10..200), (200..4000), (4000..7300), (7300..16_000)]
            .into_iter()
            .enumerate()
        {
            chain.apply(&empty_files(names.map(long_name)));
            chain.disk.check();
            let gone = (0..16_000).filter(|nth| nth % 13 == u32::try_from(layer).unwrap());
            chain.apply(&removing(gone.map(long_name)));
            chain.judge();
        }
        let index = chain.disk.debugfs("htree_dump /rootfs");
        assert!(index.contains("Indirect levels: 1"), "{index:.300}");
    }
}

#[test]
fn a_directory_of_200_000_names_takes_one_more_for_two_blocks() {
    let checksums = Checksums::Metadata;
    let mut chain = Chain::new(4096, checksums);
    chain.apply(&empty_files(
        (0..200_000).map(|nth| format!("name {nth}").into_bytes()),
    ));
    chain.judge();
    let delta = chain.apply(&empty_files([b"another".to_vec()].into_iter()));
    // A leaf, the root's and the file's inode blocks, inode bitmap, descriptors, superblock.
    assert!(delta.metadata_blocks <= 6, "{delta:?}");
    chain.judge();
}

#[test]
fn an_emptied_large_directory_is_small_again() {
    for checksums in BOTH {
        let mut chain = Chain::new(128, checksums);
        let folder = |names: std::ops::Range<u32>, opaque| {
            let mut layer = LayerTree::new(plain_meta(0o755));
            let id = layer.add(plain_meta(0o755), directory());
            let entries = names
                .map(|nth| (long_name(nth).into(), layer.add(plain_meta(0o644), file(9))))
                .collect();
            let listing = Listing {
                opaque,
                entries,
                ..Listing::default()
            };
            layer.set_directory(id, listing);
            let listing = Listing {
                entries: vec![(b"folder".as_slice().into(), id)],
                ..Listing::default()
            };
            layer.set_directory(LayerTree::ROOT, listing);
            layer
        };
        chain.apply(&folder(0..3000, false));
        let full = chain.image.usage();
        chain.apply(&folder(5..8, true));
        chain.judge();
        let emptied = chain.image.usage();
        assert_eq!(emptied.free_inodes, full.free_inodes + 2997);
        assert!(emptied.free_blocks > full.free_blocks + 3200);
        chain.apply(&folder(3000..3900, false));
        chain.judge();
        chain.apply(&removing([b"folder".to_vec()].into_iter()));
        chain.judge();
    }
}

#[test]
fn a_directory_grown_in_small_steps_has_an_extent_tree() {
    for checksums in BOTH {
        let mut chain = Chain::new(256, checksums);
        for step in 0..40 {
            chain.apply(&flat_layer(
                (step * 40..step * 40 + 40).map(|nth| (long_name(nth), file(1))),
            ));
            if step % 13 == 3 {
                chain.judge();
            }
        }
        chain.judge();
        let extents = chain.disk.debugfs("stat /rootfs");
        assert!(extents.contains("(ETB0)"), "{extents}");
    }
}

#[test]
fn subdirectories_beyond_65_000_are_not_counted() {
    let mut chain = Chain::new(4096, Checksums::default());
    let folders = |nths: std::ops::Range<u32>| {
        flat_layer(nths.map(|nth| (nth.to_string().into_bytes(), directory())))
    };
    // 64,997 subdirectories make 64,999 links, the most that are counted.
    chain.apply(&folders(0..64_997));
    chain.judge();
    chain.apply(&folders(64_997..64_998));
    chain.judge();
    chain.apply(&removing(
        (0..3).map(|nth: u32| nth.to_string().into_bytes()),
    ));
    chain.judge();
}

#[test]
fn leaves_of_one_hash_are_continued() {
    // All of them together do not fit a leaf.
    let names = |range: std::ops::Range<usize>| {
        let names = &COLLIDING[range];
        names
            .iter()
            .map(|varied| format!("{}{varied}{}", "x".repeat(224), "x".repeat(25)))
    };
    let colliding = |range| names(range).map(String::into_bytes);
    for checksums in BOTH {
        let mut chain = Chain::new(64, checksums);
        chain.apply(&empty_files(colliding(0..COLLIDING.len())));
        chain.judge();
        chain.apply(&removing(colliding(3..6)));
        chain.judge();
        // One by one behind other names, so that a leaf has to be split amid the hash.
        let mut chain = Chain::new(64, checksums);
        chain.apply(&empty_files((0..60).map(long_name)));
        for at in 0..COLLIDING.len() {
            chain.apply(&empty_files(colliding(at..at + 1)));
            chain.judge();
        }
        let index = chain.disk.debugfs("htree_dump /rootfs");
        assert!(index.contains("Hash 0x12484b7f"), "{index:.600}");
        chain.apply(&flat_layer(
            colliding(0..COLLIDING.len()).map(|name| (name, Kind::Fifo)),
        ));
        chain.judge();
    }
}
