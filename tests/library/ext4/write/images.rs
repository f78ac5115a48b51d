//! Planned ext4 images judged by e2fsck and by the kernel's ext4.

#![allow(clippy::unwrap_used)] // a test reports by panicking

use std::fs;
use std::os::unix::fs::MetadataExt;

use aufs2dm::ext4::Checksums;
use aufs2dm::ext4::write::Image;
use aufs2dm::tree::{Meta, Timestamp, Xattrs};

use super::build::{file, flat_layer, plain_meta};
use super::chain::Chain;
use super::disk::{Disk, params};
use super::layers::{Numbers, Taste, random_layer};

pub(crate) const BOTH: [Checksums; 2] = [Checksums::GroupDescriptors, Checksums::Metadata];

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
        random_chain(seed, checksums);
    }
}

#[test]
#[ignore = "takes many minutes"]
fn more_random_chains_are_clean_and_equal_to_their_model() {
    for seed in 100..140 {
        random_chain(seed, BOTH[usize::try_from(seed % 2).unwrap()]);
    }
}

fn random_chain(seed: u64, checksums: Checksums) {
    let mut numbers = Numbers::new(seed);
    let mut chain = Chain::new(1024, checksums);
    for _ in 0..8 {
        let taste = Taste {
            changes: [3, 40, 400][usize::try_from(numbers.below(3)).unwrap()],
            name_bytes: [3, 30, 255][usize::try_from(numbers.below(3)).unwrap()],
        };
        let layer = random_layer(&mut numbers, &chain.model, &taste);
        chain.apply(&layer);
        chain.judge();
    }
}

#[test]
fn small_files_stand_in_the_root() {
    for checksums in BOTH {
        let (empty, delta) = Image::format(params(64, checksums)).unwrap();
        let disk = Disk::new(&(empty.clone(), delta));
        let mut draft = empty.draft();
        draft.add_file(b"id", &plain_meta(0o600), b"first").unwrap();
        draft.add_file(b"empty", &plain_meta(0o600), b"").unwrap();
        let full = vec![b'f'; 4096];
        draft.add_file(b"full", &plain_meta(0o600), &full).unwrap();
        let (parent, delta) = draft.finish();
        assert_eq!(delta.data_blocks, 0);
        disk.write(&parent, &delta, |_, _| {});
        disk.check();
        let mut draft = parent.draft();
        draft
            .add_file(b"id", &plain_meta(0o644), b"second")
            .unwrap();
        let (child, delta) = draft.finish();
        disk.write(&child, &delta, |_, _| {});
        disk.check();
        let mounted = disk.mount("ro,noload");
        for (name, content) in [("id", &b"second"[..]), ("empty", b""), ("full", &full)] {
            assert_eq!(fs::read(mounted.path().join(name)).unwrap(), content);
        }
    }
}

#[test]
fn the_kernel_reads_times_up_to_2446() {
    for seconds in [-(1 << 31), (1 << 34) - (1 << 31) - 1] {
        let (empty, delta) = Image::format(params(64, Checksums::default())).unwrap();
        let disk = Disk::new(&(empty.clone(), delta));
        let time = Timestamp::new(seconds, 999_999_999);
        let meta = Meta {
            mtime: time,
            ..plain_meta(0o600)
        };
        let mut draft = empty.draft();
        draft.add_file(b"id", &meta, b"x").unwrap();
        let (child, delta) = draft.finish();
        disk.write(&child, &delta, |_, _| {});
        let mounted = disk.mount("ro,noload");
        let stat = fs::metadata(mounted.path().join("id")).unwrap();
        assert_eq!((stat.mtime(), stat.mtime_nsec()), (seconds, 999_999_999));
    }
}

#[test]
fn attribute_blocks_are_shared_by_1024_at_most() {
    let value: Box<[u8]> = vec![b'v'; 500].into();
    let pairs = [(b"user.large".as_slice().into(), value)];
    let xattrs: Xattrs = pairs.into_iter().collect();
    let layer = |names: std::ops::Range<u32>| {
        let names = names.map(|nth| (format!("file {nth}").into_bytes(), file(1)));
        let mut layer = flat_layer(names);
        let nodes: Vec<_> = layer.nodes().map(|(id, _)| id).collect();
        for id in nodes {
            layer.node_mut(id).meta.xattrs = xattrs.clone();
        }
        layer
    };
    for checksums in BOTH {
        let mut chain = Chain::new(256, checksums);
        let delta = chain.apply(&layer(0..2500));
        // Three blocks for the files and the directory; the rest is inodes, names and tables.
        assert!(delta.metadata_blocks < 220, "{}", delta.metadata_blocks);
        chain.judge();
        chain.apply(&layer(200..2200));
        chain.judge();
    }
}

#[test]
fn a_kernel_that_writes_to_an_image_leaves_it_clean() {
    for (seed, checksums) in (40..).zip(BOTH) {
        let mut numbers = Numbers::new(seed);
        let mut chain = Chain::new(512, checksums);
        let names = (0..5000).map(|nth| {
            (
                format!("a rather long name of file {nth:050}").into_bytes(),
                file(nth),
            )
        });
        chain.apply(&flat_layer(names));
        let taste = Taste {
            changes: 40,
            name_bytes: 30,
        };
        chain.apply(&random_layer(&mut numbers, &chain.model, &taste));
        {
            let mounted = chain.disk.mount("rw");
            let root = mounted.path().join("rootfs");
            for nth in 0..3000 {
                let _ = fs::remove_file(root.join(format!("a rather long name of file {nth:050}")));
                fs::write(
                    root.join(format!("written by the kernel {nth:080}")),
                    [7; 5000],
                )
                .unwrap();
            }
            fs::create_dir_all(root.join("new/directories")).unwrap();
        }
        chain.disk.check();
    }
}
