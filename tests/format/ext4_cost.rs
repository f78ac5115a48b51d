//! What plans cost: clusters written by small layers, and, on demand, memory and time.

#![allow(clippy::unwrap_used)] // a test reports by panicking
#![allow(clippy::print_stdout)] // figures are what a measurement is for

use std::fs;
use std::time::Instant;

use aufs2dm::ext4::{Checksums, Delta, Image};
use aufs2dm::tree::{LayerTree, Listing};

use crate::ext4_disk::params;
use crate::ext4_layers::{directory, file, flat_layer, plain_meta, set};

/// A layer of directories with a hundred files each, as in a system's packages.
fn many_files(nr_files: u32, bytes: u64) -> LayerTree {
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
fn one_file(nth: u32, folders: u32) -> LayerTree {
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

fn child(image: &Image, layer: &LayerTree) -> (Image, Delta) {
    let mut draft = image.draft();
    draft.apply(b"rootfs", layer).unwrap();
    draft.finish()
}

fn clusters(delta: &Delta) -> usize {
    let mut data: Vec<_> = delta
        .data
        .iter()
        .flat_map(|run| run.physical / 16..=(run.physical + run.blocks - 1) / 16)
        .collect();
    data.dedup();
    delta.metadata.len() + data.len()
}

#[test]
fn a_layer_of_one_file_writes_eight_clusters_at_most() {
    let (empty, _) = Image::format(params(10_240, Checksums::default())).unwrap();
    let (mut image, _) = child(&empty, &many_files(50_000, 3000));
    for nth in 0..1000 {
        let (next, delta) = child(&image, &one_file(nth, 500));
        assert!(clusters(&delta) <= 8, "{delta:?}");
        assert_eq!(delta.data_blocks, 2);
        image = next;
    }
}

#[test]
fn clusters_written_are_little_more_than_the_blocks_in_them() {
    let (empty, _) = Image::format(params(10_240, Checksums::default())).unwrap();
    let (_, delta) = child(&empty, &many_files(20_000, 50_000));
    let blocks = delta.metadata_blocks + delta.data_blocks;
    let written = clusters(&delta) as u64 * 16;
    assert!(
        written * 100 <= blocks * 102,
        "{written} written for {blocks}"
    );
}

#[test]
fn unchanged_directories_are_not_written() {
    let (empty, _) = Image::format(params(1024, Checksums::default())).unwrap();
    let layer = flat_layer([(b"a".to_vec(), directory())].into_iter());
    let (image, _) = child(&empty, &layer);
    let (_, delta) = child(&image, &layer);
    assert_eq!(delta, Delta::default());
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn measure<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (before, start) = (resident(), Instant::now());
    let result = work();
    let grown = resident().saturating_sub(before) / 1024;
    println!(
        "{what}: {:.3} s, {grown} KiB more",
        start.elapsed().as_secs_f64()
    );
    result
}

#[test]
#[ignore = "measures; run alone, optimised, with --nocapture"]
fn cost_of_a_million_files() {
    let (empty, _) = Image::format(params(102_400, Checksums::default())).unwrap();
    let layer = measure("a layer tree of 1,000,000 files", || {
        many_files(1_000_000, 3000)
    });
    let (image, delta) = measure("planned", || child(&empty, &layer));
    let runs = delta.data.capacity() * size_of_val(&delta.data[0]) / 1024;
    println!("of which data runs: {runs} KiB");
    measure("encoded", || {
        let mut out = vec![0; 65_536];
        for &cluster in &delta.metadata {
            image.encode_cluster(cluster, &mut out);
        }
    });
}

#[test]
#[ignore = "measures; run alone, optimised, with --nocapture"]
fn cost_of_five_thousand_layers() {
    let (empty, _) = Image::format(params(102_400, Checksums::default())).unwrap();
    let layer = many_files(100_000, 3000);
    let mut images = measure("base of 100,000 files", || vec![child(&empty, &layer).0]);
    measure("5000 layers of one file", || {
        for nth in 0..5000 {
            let (next, _) = child(images.last().unwrap(), &one_file(nth, 1000));
            images.push(next);
        }
    });
}

#[test]
#[ignore = "measures; run alone, optimised, with --nocapture"]
fn cost_of_a_large_directory() {
    let (empty, _) = Image::format(params(102_400, Checksums::default())).unwrap();
    let names = (0..200_000).map(|nth| (format!("a name of {nth}").into_bytes(), file(0)));
    let names = flat_layer(names);
    let (large, _) = measure("a directory of 200,000 names", || child(&empty, &names));
    let mut images = vec![large];
    measure("1000 names more, a layer each", || {
        for nth in 0..1000 {
            let name = format!("another name {nth}").into_bytes();
            let layer = flat_layer([(name, file(0))].into_iter());
            images.push(child(images.last().unwrap(), &layer).0);
        }
    });
}
