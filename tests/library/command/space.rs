//! File systems that run full: growing, refusing, and using freed space again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;

use aufs2dm::ext4;
use aufs2dm::plan::Error;
use aufs2dm::units::Bytes;
use nix::fcntl::{FallocateFlags, fallocate};
use tempfile::TempDir;

use super::pool::{Source, chain, judge, lay_out, options};
use crate::support::layer::Layer;
use crate::support::random::Random;

/// Branches made one after the other, each by its number.
fn branches(dir: &TempDir, nr: u64, mut make: impl FnMut(u64, Layer) -> Layer) -> Vec<PathBuf> {
    (0..nr)
        .map(|at| make(at, Layer::new(dir.path().join(at.to_string()))).finish())
        .collect()
}

fn content(random: &mut Random, length: u64) -> Vec<u8> {
    (0..length.div_ceil(8))
        .flat_map(|_| random.next().to_le_bytes())
        .collect()
}

pub(super) fn of_size(base_size: Option<Bytes>) -> aufs2dm::plan::Options {
    let mut options = options();
    options.choices.base_size = base_size;
    options
}

#[test]
fn a_file_rewritten_in_every_layer_goes_round_a_small_file_system_and_all_layers_stay_right() {
    let dir = TempDir::new().unwrap();
    let mut random = Random(7);
    let branches = branches(&dir, 14, |at, layer| {
        // 14 times 9 MB: more than twice what 64 MiB have room for.
        let big = content(&mut random, 9_000_000 + at * 4096);
        let small = content(&mut random, 3000);
        layer.file("big", big).file(format!("dir/{at}"), small)
    });
    judge(&chain(&branches), &of_size(Some(Bytes::mib(64))));
}

#[test]
fn random_churn_in_a_small_file_system_keeps_all_layers_right() {
    for seed in 0..3 {
        let dir = TempDir::new().unwrap();
        let mut random = Random(100 + seed);
        let branches = branches(&dir, 16, |at, mut layer| {
            let mut used = BTreeSet::new();
            for _ in 0..6 + random.below(30) {
                let name = format!("d{}/f{}", random.below(4), random.below(40));
                let action = random.below(10);
                let name = if action == 3 { name[..2].into() } else { name };
                if !used.insert(name.clone()) {
                    continue;
                }
                layer = match action {
                    0..3 if at > 0 => layer.whiteout(name),
                    3 => layer.opaque(name),
                    4 => layer.symlink(name, "t".repeat(300)),
                    5 => {
                        let value = content(&mut random, 2000);
                        layer.file(&name, "").xattr(&name, "user.big", &value)
                    }
                    _ => {
                        let length = random.below(1_200_000);
                        layer.file(name, content(&mut random, length))
                    }
                };
            }
            layer
        });
        let mut options = of_size(Some(Bytes::mib(96)));
        if seed == 1 {
            options.choices.checksums = ext4::Checksums::Metadata;
        }
        judge(&chain(&branches), &options);
    }
}

/// A chain of one layer with a file whose first `bytes` are allocated and zero.
fn one_file(dir: &TempDir, bytes: u64) -> Vec<Source> {
    let branches = branches(dir, 1, |_, layer| layer.file("huge", ""));
    let file = File::options().write(true).open(branches[0].join("huge"));
    let length = i64::try_from(bytes).unwrap();
    fallocate(file.unwrap(), FallocateFlags::empty(), 0, length).unwrap();
    chain(&branches)
}

#[test]
fn the_base_grows_until_the_merged_tree_leaves_a_tenth_free() {
    let dir = TempDir::new().unwrap();
    for (bytes, expected) in [
        (Bytes::gib(8), Bytes::gib(10)),
        (Bytes::gib(9), Bytes::gib(20)),
        (Bytes::gib(11), Bytes::gib(20)),
    ] {
        let layers = one_file(&dir, bytes.0);
        let layout = lay_out(&layers, &of_size(None)).unwrap();
        assert_eq!(layout.plan.base_size, expected, "{bytes}");
        fs::remove_dir_all(dir.path().join("0")).unwrap();
    }
}

#[test]
fn a_base_size_that_is_too_small_is_an_error_that_names_the_layer() {
    let dir = TempDir::new().unwrap();
    let layers = one_file(&dir, Bytes::mib(70).0);
    let error = lay_out(&layers, &of_size(Some(Bytes::mib(64)))).unwrap_err();
    let Error::Layer { layer, source } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(layer.as_str(), "layer00000");
    assert!(matches!(source, ext4::Error::NoSpace { .. }), "{source:?}");
}

#[test]
fn inodes_run_out_first_and_the_tables_get_denser() {
    let dir = TempDir::new().unwrap();
    let branches = branches(&dir, 3, |at, layer| {
        (0..3000).fold(layer, |layer, file| layer.fifo(format!("{at}/{file}")))
    });
    // 64 MiB have 8192 inodes at Docker's ratio.
    judge(&chain(&branches), &of_size(Some(Bytes::mib(64))));
}

#[test]
fn a_base_of_the_least_size_runs_out_of_inodes_with_an_error() {
    let dir = TempDir::new().unwrap();
    let branches = branches(&dir, 1, |_, layer| {
        (0..33_000).fold(layer, |layer, file| layer.fifo(format!("{file}")))
    });
    let error = lay_out(&chain(&branches), &of_size(Some(Bytes::mib(64)))).unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Layer {
                source: ext4::Error::NoInodes { .. },
                ..
            }
        ),
        "{error:?}"
    );
}
