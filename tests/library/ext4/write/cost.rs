//! What plans cost: the clusters that layers write. Time and memory are measured by the benchmark `ext4_plan`.

#![allow(clippy::unwrap_used)] // a test reports by panicking

use aufs2dm::ext4::Checksums;
use aufs2dm::ext4::write::{Delta, Image};

use super::build::{child, directory, flat_layer, many_files, one_file};
use super::disk::params;

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
