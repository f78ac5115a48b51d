//! Views derived from their parents' are what reading the child as a whole gives.

#![allow(clippy::unwrap_used)] // a test reports by panicking
#![allow(clippy::single_range_in_vec_init)] // one range is a list of ranges here

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use aufs2dm::ext4::Ino;
use aufs2dm::ext4::read::{CheckedView, View};
use aufs2dm::ext4::write::Delta;

use super::images::{Made, fill};
use super::views::read_clean;
use crate::ext4::write::{BOTH, Chain, Numbers, Taste, random_layer};

const CLUSTER: u64 = 65_536;

/// The bytes that a layer wrote, in whole clusters as a thin pool maps them.
fn written(delta: &Delta) -> Vec<Range<u64>> {
    let data = delta
        .data
        .iter()
        .flat_map(|run| run.physical / 16..=(run.physical + run.blocks - 1) / 16);
    let clusters: BTreeSet<u32> = delta.metadata.iter().copied().chain(data).collect();
    clusters
        .into_iter()
        .map(|cluster| u64::from(cluster) * CLUSTER..u64::from(cluster + 1) * CLUSTER)
        .collect()
}

/// Fails unless both views tell the same by every question that there is.
fn assert_same(derived: &CheckedView, whole: &CheckedView) {
    assert_eq!(derived.faults, whole.faults);
    let changed: Vec<Ino> = derived.view.changed_since(&whole.view).collect();
    assert!(changed.is_empty(), "{changed:?}");
    let all = [0..u64::MAX];
    let content = |view: &View| view.content_in(&all).collect::<Vec<_>>();
    assert!(content(&derived.view) == content(&whole.view));
    for ((ino, inode), (other, expected)) in derived.view.inodes().zip(whole.view.inodes()) {
        assert_eq!(
            (ino, inode.links(), inode.size()),
            (other, expected.links(), expected.size())
        );
        assert!(derived.view.extents(ino).eq(whole.view.extents(ino)));
        assert!(derived.view.parents(ino).eq(whole.view.parents(ino)));
    }
}

#[test]
fn a_derived_view_equals_one_that_was_read() {
    for (seed, checksums) in (500..).zip(BOTH) {
        let mut numbers = Numbers::new(seed);
        let mut chain = Chain::new(1024, checksums);
        let mut parent = read_clean(&chain.disk.path());
        for changes in [400, 3, 400, 40, 3, 40, 400, 3] {
            let taste = Taste {
                changes,
                name_bytes: 60,
            };
            let layer = random_layer(&mut numbers, &chain.model, &taste);
            let delta = chain.apply(&layer);
            let device = File::open(chain.disk.path()).unwrap();
            let derived = parent.derive(&device, &written(&delta)).unwrap();
            let whole = View::read(&device).unwrap();
            assert_same(&derived, &whole);
            damage(
                &chain.disk.path(),
                &mut numbers,
                (&parent, &written(&delta)),
            );
            parent = derived.view;
        }
    }
}

/// Damages metadata that a layer wrote: what is found must not depend on the way.
fn damage(path: &Path, numbers: &mut Numbers, (parent, written): (&View, &[Range<u64>])) {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    for _ in 0..6 {
        let range = &written[usize::try_from(numbers.below(written.len() as u64)).unwrap()];
        let block = range.start + numbers.below(16) * 4096;
        let mut bytes = [0; 4096];
        device.read_exact_at(&mut bytes, block).unwrap();
        let mut damaged = bytes;
        for _ in 0..=numbers.below(3) {
            let at = usize::try_from(numbers.below(4096)).unwrap();
            damaged[at] ^= 1 << numbers.below(8);
        }
        device.write_all_at(&damaged, block).unwrap();
        // Damage to the superblock may leave nothing to read.
        let (derived, whole) = (parent.derive(&device, written), View::read(&device));
        match (derived, whole) {
            (Ok(derived), Ok(whole)) => assert_same(&derived, &whole),
            (derived, whole) => assert!(derived.is_err() && whole.is_err()),
        }
        device.write_all_at(&bytes, block).unwrap();
    }
}

#[test]
fn what_the_kernel_changed_is_found_too() {
    for options in [
        &["-b", "4096"][..],
        &[
            "-b",
            "1024",
            "-O",
            "^extent,^64bit,^metadata_csum,uninit_bg",
        ],
    ] {
        let made = Made::new(300, options);
        made.mounted("rw", fill);
        let parent = read_clean(&made.path());
        let before = fs::read(made.path()).unwrap();
        made.mounted("rw", |root| {
            let tree = root.join("tree");
            fs::rename(tree.join("folder 3"), tree.join("folder 2/moved")).unwrap();
            fs::remove_dir_all(tree.join("folder 4")).unwrap();
            fs::write(tree.join("folder 1/new"), vec![5; 70_000]).unwrap();
            fs::remove_file(tree.join("attributes 0")).unwrap();
            xattr::set(tree.join("attributes 2"), "user.more", &[1; 100]).unwrap();
            for nth in 0..300 {
                File::create(tree.join(format!("large/another name {nth:0100}"))).unwrap();
            }
        });
        let after = fs::read(made.path()).unwrap();
        let blocks = before
            .chunks(1024)
            .zip(after.chunks(1024))
            .zip((0..).step_by(1024));
        let changed: Vec<_> = blocks
            .filter(|((before, after), _)| before != after)
            .map(|(_, at)| at..at + 1024)
            .collect();
        let device = File::open(made.path()).unwrap();
        let derived = parent.derive(&device, &changed).unwrap();
        let whole = View::read(&device).unwrap();
        assert_eq!(whole.faults, []);
        assert_same(&derived, &whole);
        let changed: BTreeSet<Ino> = derived.view.changed_since(&parent).collect();
        let tree = parent.lookup(Ino::ROOT, b"tree").unwrap();
        let large = parent.lookup(tree, b"large").unwrap();
        let link = parent.lookup(tree, b"symlink 900").unwrap();
        assert!(changed.contains(&tree) && changed.contains(&large) && !changed.contains(&link));
    }
}

#[test]
fn content_that_was_written_over_is_told() {
    let mut chain = Chain::new(256, BOTH[0]);
    let mut numbers = Numbers::new(9);
    let taste = Taste {
        changes: 100,
        name_bytes: 30,
    };
    let layer = random_layer(&mut numbers, &chain.model, &taste);
    chain.apply(&layer);
    let view = read_clean(&chain.disk.path());
    let unit = u64::from(view.block_bytes());
    let long = |ino| view.extents(ino).find(|run| run.blocks > 4);
    let (ino, run) = view
        .inodes()
        .filter(|(ino, _)| ino.0 > 11)
        .find_map(|(ino, _)| Some((ino, long(ino)?)))
        .unwrap();
    let start = (run.physical + 1) * unit;
    let found: Vec<_> = view.content_in(&[start + 5..start + unit + 7]).collect();
    let [(found, cut)] = found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (found, cut.logical, cut.physical, cut.blocks),
        (ino, run.logical + 1, run.physical + 1, 2)
    );
}
