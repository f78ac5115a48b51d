//! What does not fit, and what just does.

#![allow(clippy::unwrap_used)] // a test reports by panicking

use aufs2dm::ext4::write::{Error, Image, Problem, problems_of};
use aufs2dm::ext4::{Checksums, Params};
use aufs2dm::tree::{
    DeviceNumber, Kind, LayerTree, Listing, Meta, Regular, Segment, Timestamp, Xattrs,
};

use super::build::{directory, file, flat_layer, plain_meta, set};
use super::chain::Chain;
use super::disk::params;
use super::images::BOTH;
use super::layers::{Numbers, Taste, random_layer};

/// The problem of a layer's one entry `name`.
fn problem(name: &[u8], meta: Meta, kind: Kind) -> Problem {
    let mut layer = LayerTree::new(plain_meta(0o755));
    let id = layer.add(meta, kind);
    set(&mut layer, LayerTree::ROOT, vec![(name.into(), id)]);
    let (image, _) = Image::format(params(64, Checksums::default())).unwrap();
    match image.draft().apply(b"rootfs", &layer) {
        Err(Error::Entry { path, source }) => {
            assert_eq!(path, layer.display_path(id));
            let all = problems_of(&layer);
            assert_eq!(all.len(), 1, "{all:?}");
            assert_eq!((&all[0].path, &all[0].problem), (&path, &source));
            source
        }
        other => panic!("{other:?}"),
    }
}

fn sparse(size: u64, segments: &[(u64, u64)]) -> Kind {
    let segments = segments.iter().map(|&(start, end)| Segment { start, end });
    Kind::Regular(Regular {
        size,
        segments: Some(Box::new(segments.collect())),
    })
}

#[test]
fn entries_that_ext4_cannot_hold_are_named() {
    let plain = || plain_meta(0o644);
    for segments in [
        &[(0, 4096), (100, 200)][..],
        &[(10, 10)],
        &[(0, 20_001)],
        &[(5000, 6000), (0, 100)],
    ] {
        let found = problem(b"a", plain(), sparse(20_000, segments));
        assert_eq!(found, Problem::Segments);
    }
    let bytes = 1 << 45;
    assert_eq!(
        problem(b"a", plain(), file(bytes)),
        Problem::FileSize { bytes }
    );
    for target in [&b""[..], &[b'x'; 4096], b"a\0b"] {
        let found = problem(b"a", plain(), Kind::Symlink(target.into()));
        let bytes = target.len();
        assert_eq!(found, Problem::Target { bytes });
    }
    for name in [&b"."[..], b"..", b"a/b", b"a\0", b"", &[b'x'; 256]] {
        let name_of_problem = name.into();
        let expected = Problem::Name {
            name: name_of_problem,
        };
        assert_eq!(problem(name, plain(), Kind::Fifo), expected);
    }
    let (major, minor) = (4096, 0);
    let device = Kind::CharDevice(DeviceNumber { major, minor });
    assert_eq!(
        problem(b"a", plain(), device),
        Problem::Device { major, minor }
    );
    let seconds = -(1 << 31) - 1;
    let old = Meta {
        atime: Timestamp::new(seconds, 0),
        ..plain()
    };
    assert_eq!(problem(b"a", old, directory()), Problem::Time { seconds });
    let name: Box<[u8]> = b"btrfs.x".as_slice().into();
    let odd = Meta {
        xattrs: [(name.clone(), name.clone())]
            .into_iter()
            .collect::<Xattrs>(),
        ..plain()
    };
    assert_eq!(problem(b"a", odd, Kind::Fifo), Problem::XattrName { name });
}

#[test]
fn a_file_has_65_000_names_at_most() {
    let linked = |count: u32| {
        let mut layer = LayerTree::new(plain_meta(0o755));
        let id = layer.add(plain_meta(0o644), file(5));
        let entries = (0..count).map(|nth| (nth.to_string().into_bytes().into(), id));
        set(&mut layer, LayerTree::ROOT, entries.collect());
        layer
    };
    let mut chain = Chain::new(256, Checksums::Metadata);
    chain.apply(&linked(65_000));
    chain.judge();
    let refused = chain.image.draft().apply(b"other", &linked(65_001));
    let Err(Error::Entry { source, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(source, Problem::Links);
}

#[test]
fn all_problems_of_a_layer_are_found_and_none_in_one_that_fits() {
    let mut layer = LayerTree::new(plain_meta(0o755));
    let linked = layer.add(plain_meta(0o644), file(5));
    let huge = layer.add(plain_meta(0o644), file(17 << 40));
    let mut entries: Vec<(Box<[u8]>, _)> = (0..65_000)
        .map(|nth| (format!("link{nth:05}").into_bytes().into(), linked))
        .collect();
    entries.push((b"huge".as_slice().into(), huge));
    let mut fits = layer.clone();
    set(&mut fits, LayerTree::ROOT, entries[..65_000].to_vec());
    assert!(
        problems_of(&fits)
            .iter()
            .all(|found| found.path != "/link00000"),
        "65000 names fit"
    );
    entries.push((b"one more".as_slice().into(), linked));
    set(&mut layer, LayerTree::ROOT, entries);
    let found = problems_of(&layer);
    let found: Vec<_> = found
        .iter()
        .map(|found| (found.path.as_str(), &found.problem))
        .collect();
    let bytes = 17 << 40;
    assert_eq!(
        found,
        [
            ("/link00000", &Problem::Links),
            ("/huge", &Problem::FileSize { bytes })
        ]
    );
}

#[test]
fn a_directory_has_one_name() {
    let mut layer = LayerTree::new(plain_meta(0o755));
    let id = layer.add(plain_meta(0o755), directory());
    let names = [&b"a"[..], b"b"];
    set(
        &mut layer,
        LayerTree::ROOT,
        names.map(|name| (name.into(), id)).into(),
    );
    let (image, _) = Image::format(params(64, Checksums::default())).unwrap();
    let refused = image.draft().apply(b"rootfs", &layer);
    assert!(
        matches!(
            &refused,
            Err(Error::Entry {
                source: Problem::LinkedDirectory,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn a_layer_that_is_too_large_leaves_the_draft_as_it_was() {
    let (image, _) = Image::format(params(64, Checksums::default())).unwrap();
    let mut draft = image.draft();
    let refused = draft.apply(
        b"rootfs",
        &flat_layer([(b"big".to_vec(), file(1 << 30))].into_iter()),
    );
    let Err(Error::NoSpace { needed, available }) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        needed > 1 << 18 && available < 16_384,
        "{needed} {available}"
    );
    assert_eq!(draft.finish().1, aufs2dm::ext4::write::Delta::default());
}

#[test]
fn a_layer_without_enough_inodes_is_refused() {
    let few = Params {
        inodes_per_group: 256,
        ..params(64, Checksums::default())
    };
    let (image, _) = Image::format(few).unwrap();
    let names = |count: u32| {
        let names = (0..count).map(|nth| (nth.to_string().into_bytes(), Kind::Fifo));
        flat_layer(names)
    };
    // Eleven are the file system's own, one is the directory's.
    assert!(image.draft().apply(b"rootfs", &names(244)).is_ok());
    let refused = image.draft().apply(b"rootfs", &names(245));
    assert!(
        matches!(refused, Err(Error::NoInodes { inodes: 256 })),
        "{refused:?}"
    );
}

#[test]
fn a_draft_takes_one_layer() {
    let (image, _) = Image::format(params(64, Checksums::default())).unwrap();
    let mut draft = image.draft();
    let layer = flat_layer([(b"a".to_vec(), file(1))].into_iter());
    draft.apply(b"rootfs", &layer).unwrap();
    assert!(matches!(
        draft.apply(b"rootfs", &layer),
        Err(Error::SecondLayer)
    ));
}

#[test]
fn parameters_that_make_no_file_system_are_refused() {
    let format = |blocks, inodes_per_group| {
        Image::format(Params {
            blocks,
            inodes_per_group,
            ..params(64, Checksums::default())
        })
    };
    for per_group in [0, 100, 255, 257, 32_769, 65_536] {
        let refused = format(16_384, per_group);
        assert!(
            matches!(refused, Err(Error::InodesPerGroup { .. })),
            "{refused:?}"
        );
    }
    for blocks in [0, 1, 100, 1500] {
        let refused = format(blocks, 8192);
        assert!(
            matches!(refused, Err(Error::TooSmall { .. })),
            "{refused:?}"
        );
    }
    assert!(matches!(
        format(u32::MAX, 32_768),
        Err(Error::TooLarge { .. })
    ));
    assert!(matches!(
        format(u32::MAX, 8192),
        Err(Error::TooLarge { .. })
    ));
    assert!(format(131_071 * 32_768, 8192).is_ok());
}

#[test]
fn space_and_numbers_are_used_again_when_the_end_is_reached() {
    for (seed, checksums) in (7..).zip(BOTH) {
        let mut numbers = Numbers::new(seed);
        let mut chain = Chain::with(Params {
            inodes_per_group: 2048,
            ..params(72, checksums)
        });
        let taste = Taste {
            changes: 60,
            name_bytes: 40,
        };
        let mut highest = 0;
        let mut went_back = 0;
        for nth in 0..60 {
            let mut layer = random_layer(&mut numbers, &chain.model, &taste);
            if nth % 4 == 3 {
                layer = removing_half(&chain);
            }
            let mut draft = chain.image.draft();
            if draft.apply(b"rootfs", &layer).is_err() {
                layer = removing_half(&chain);
            }
            let delta = chain.apply(&layer);
            if let Some(run) = delta.data.first() {
                went_back += u32::from(run.physical < highest);
                highest = highest.max(run.physical);
            }
            if nth % 6 == 0 {
                chain.judge();
            }
        }
        chain.judge();
        assert!(went_back > 5, "{went_back}");
    }
}

/// Removes every other name of the root.
fn removing_half(chain: &Chain) -> LayerTree {
    let names = chain.model.names(chain.model.root).unwrap().keys();
    let mut layer = LayerTree::new(plain_meta(0o755));
    let listing = Listing {
        removed: names
            .step_by(2)
            .map(|name| name.as_slice().into())
            .collect(),
        ..Listing::default()
    };
    layer.set_directory(LayerTree::ROOT, listing);
    layer
}

#[test]
fn files_with_many_holes_have_deep_extent_trees() {
    for checksums in BOTH {
        let mut chain = Chain::new(512, checksums);
        let holes = |runs: u64| {
            let segments: Vec<_> = (0..runs).map(|at| (at * 8192 + 1, at * 8192 + 2)).collect();
            sparse(runs * 8192, &segments)
        };
        let names = [4, 5, 340, 341, 1360, 1361, 40_000];
        let files = names.map(|runs| (runs.to_string().into_bytes(), holes(runs)));
        chain.apply(&flat_layer(files.into_iter()));
        chain.judge();
        let tree = chain.disk.debugfs("ex /rootfs/40000");
        assert!(tree.contains(" 2/ 2"), "{tree:.300}");
        let names = [5, 40_000].map(|runs: u64| (runs.to_string().into_bytes(), Kind::Fifo));
        chain.apply(&flat_layer(names.into_iter()));
        chain.judge();
    }
}

#[test]
fn a_file_longer_than_a_run_has_several() {
    let mut chain = Chain::new(1024, Checksums::default());
    let layer = flat_layer([(b"long".to_vec(), file(300 << 20))].into_iter());
    let delta = chain.apply(&layer);
    assert!(delta.data.len() > 1);
    chain.judge();
    // A length that needs no blocks: only the first byte is there.
    let largest = sparse((1 << 44) - 8192, &[(0, 1)]);
    chain.apply(&flat_layer([(b"largest".to_vec(), largest)].into_iter()));
    chain.judge();
}
