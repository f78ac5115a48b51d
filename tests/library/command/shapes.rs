//! Layers of unusual shape, one test each.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use aufs2dm::ext4::Checksums;
use aufs2dm::units::Bytes;
use tempfile::TempDir;

use super::pool::{PoolFiles, Source, chain, in_memory, judge, lay_out, options};
use super::space::of_size;
use crate::support::layer::Layer;

type Make<'a> = &'a dyn Fn(Layer) -> Layer;

/// A chain of layers, judged with each kind of checksums.
fn judge_chain(layers: &[Make<'_>]) {
    let dir = TempDir::new().unwrap();
    let make =
        |(at, make): (usize, &Make<'_>)| make(Layer::new(dir.path().join(at.to_string()))).finish();
    let branches: Vec<PathBuf> = layers.iter().enumerate().map(make).collect();
    for checksums in [Checksums::GroupDescriptors, Checksums::Metadata] {
        let mut options = options();
        options.choices.checksums = checksums;
        judge(&chain(&branches), &options);
    }
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at / 7 % 251).to_le_bytes()[0])
        .collect()
}

fn many(layer: Layer, names: impl Iterator<Item = String>) -> Layer {
    names.fold(layer, |layer, name| layer.file(name, ""))
}

#[test]
fn no_layers_at_all_make_a_pool_of_the_base_device() {
    let layout = judge(&[], &options());
    assert_eq!(layout.devices.len(), 1);
}

#[test]
fn empty_layers_show_what_is_below() {
    judge_chain(&[&|l| l, &|l| l.file("a", "x"), &|l| l, &|l| l]);
}

#[test]
fn a_layer_may_white_everything_out() {
    judge_chain(&[
        &|l| {
            l.file("a", "x")
                .dir("d/e")
                .file("d/e/f", "y")
                .symlink("s", "a")
        },
        &|l| l.whiteout("a").whiteout("d").whiteout("s"),
        &|l| l.file("a", "again").dir("d"),
        &|l| l.opaque(""),
    ]);
}

#[test]
fn a_file_may_take_the_place_of_a_directory_of_3000_entries_and_back() {
    judge_chain(&[
        &|l| many(l, (0..3000).map(|at| format!("d/entry number {at}"))),
        &|l| l.file("d", "a file now"),
        &|l| many(l, (0..700).map(|at| format!("d/other {at}"))),
        &|l| l.symlink("d", "nowhere"),
    ]);
}

#[test]
fn files_of_sizes_around_blocks_clusters_and_units() {
    let sizes = [
        0,
        1,
        4095,
        4096,
        4097,
        65_535,
        65_536,
        65_537,
        4 << 20,
        (4 << 20) + 1,
        9_999_999,
    ];
    let all = |l: Layer| {
        sizes
            .iter()
            .fold(l, |l, &size| l.file(format!("f{size}"), bytes(size)))
    };
    judge_chain(&[
        &all,
        &|l| l.file("f4096", bytes(4097)).file("f4097", bytes(1)),
        &all,
    ]);
}

#[test]
fn a_file_above_the_longest_extent_is_whole() {
    // An extent has at most 128 MiB.
    judge_chain(&[&|l| l.file("first", "x").file("large", bytes(150 << 20))]);
}

#[test]
fn sparse_files_keep_their_holes() {
    let data = bytes(5000);
    let dir = TempDir::new().unwrap();
    let checkers: Vec<(u64, &[u8])> = (0..2000).map(|at| (at * 8192, &data[..4096])).collect();
    let layer = Layer::new(dir.path().join("a"))
        .sparse("hole first", 1 << 20, &[(900_000, &data)])
        .sparse("hole last", 1 << 20, &[(0, &data)])
        .sparse(
            "amid",
            10 << 20,
            &[(4095, &data), (5 << 20, &data), ((5 << 20) + 9000, &data)],
        )
        .sparse("nothing", 32 << 20, &[])
        .sparse("not a block", 4097, &[])
        .sparse("checkers", 2000 * 8192, &checkers);
    let branches = [
        layer.finish(),
        Layer::new(dir.path().join("b"))
            .file("checkers", "x")
            .finish(),
        Layer::new(dir.path().join("c"))
            .sparse("checkers", 1500 * 8192, &checkers[..1500])
            .finish(),
    ];
    let layout = judge(&chain(&branches), &options());
    let blocks: u64 = layout.devices[1].delta.data_blocks;
    assert!(blocks < 2000 + 20, "holes take no blocks: {blocks}");
}

#[test]
fn a_file_of_a_tebibyte_has_its_last_block() {
    const SIZE: u64 = 1 << 40;
    let dir = TempDir::new().unwrap();
    let branch = Layer::new(dir.path().join("a")).sparse("huge", SIZE, &[(SIZE - 5, b"last!")]);
    let layers = chain(&[branch.finish()]);
    let layout = lay_out(&layers, &options()).unwrap();
    let files = PoolFiles::write(&layout, dir.path());
    let flat = files.flat(&files.dump()[&2]);
    flat.check();
    let mounted = flat.mount("ro,noload");
    let file = fs::File::open(mounted.rootfs().join("huge")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), SIZE);
    let mut last = [0; 10];
    file.read_exact_at(&mut last, SIZE - 10).unwrap();
    assert_eq!(&last, b"\0\0\0\0\0last!");
    assert_eq!(layout.devices[1].delta.data_blocks, 1);
}

#[test]
fn link_groups_lose_and_replace_names_in_children() {
    judge_chain(&[
        &|l| {
            l.file("a/one", "linked")
                .hard_link("a/one", "b/two")
                .hard_link("a/one", "three")
                .symlink("soft", "t")
                .hard_link("soft", "b/soft")
        },
        &|l| l.whiteout("b/two").whiteout("soft"),
        &|l| l.file("three", "new").hard_link("three", "a/four"),
        &|l| l.whiteout("a/one").whiteout("three").whiteout("b/soft"),
        &|l| l.opaque("a").file("b/two", "back"),
    ]);
}

#[test]
fn a_large_directory_is_added_to_thinned_out_emptied_and_refilled() {
    let name = |at: u32| format!("d/some name that takes room {at}");
    judge_chain(&[
        &|l| many(l, (0..20_000).map(name)),
        &|l| many(l, (20_000..20_700).map(name)),
        &|l| (0..20_000).step_by(3).fold(l, |l, at| l.whiteout(name(at))),
        &|l| many(l.opaque("d"), (5..8).map(name)),
        &|l| (5..8).fold(l, |l, at| l.whiteout(name(at))),
        &|l| many(l, (100..4000).map(name)),
    ]);
}

#[test]
fn names_targets_and_times_at_their_limits() {
    let name = |at: u8| crate::support::walk::os(&[at; 255]).to_owned();
    judge_chain(&[
        &|l| {
            let l = (1..=255)
                .filter(|&at| at != b'/')
                .fold(l, |l, at| l.file(name(at), [at]));
            let l = [
                -0x8000_0000,
                -1,
                0,
                0x7fff_ffff,
                0x8000_0000,
                0x1_0000_0000,
                0x3_7fff_ffff,
            ]
            .iter()
            .fold(l, |l, &sec| {
                let name = format!("time {sec}");
                l.file(&name, "").time(&name, sec, 999_999_999)
            });
            l.symlink("long", "t".repeat(4095))
                .symlink("fast", "t".repeat(59))
                .symlink("slow", "t".repeat(60))
        },
        &|l| l.whiteout("time 0").file(name(b'y'), "new").time("", -5, 7),
    ]);
}

#[test]
fn attributes_up_to_what_a_block_holds() {
    let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\x05\0\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x06\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
    let v2 = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let v3 = b"\x01\0\0\x03\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xa0\x86\x01\0";
    // One attribute fills a block: 32 bytes header, 16 and the name's 4 for the entry, 4 for the end.
    let full = bytes(4096 - 32 - 20 - 4);
    judge_chain(&[
        &|l| {
            l.file("full", "x")
                .xattr("full", "user.abcd", &full)
                .file("same", "x")
                .xattr("same", "user.abcd", &full)
                .dir("d")
                .xattr("d", "system.posix_acl_access", acl)
                .xattr("d", "system.posix_acl_default", acl)
                .file("v2", "")
                .xattr("v2", "security.capability", v2)
                .file("v3", "")
                .xattr("v3", "security.capability", v3)
                .file("empty", "")
                .xattr("empty", "user.e", b"")
                .file("inode", "")
                .xattr("inode", "user.a", &bytes(60))
                .fifo("fifo")
                .xattr("fifo", "trusted.x", b"1")
                .symlink("link", "t")
                .xattr("link", "trusted.x", &bytes(300))
        },
        &|l| l.file("full", "y").dir("d").xattr("d", "user.abcd", &full),
        &|l| l.whiteout("same").dir("d"),
    ]);
}

fn siblings(dir: &TempDir, nr: usize, deep: bool) -> Vec<Source> {
    let base = Layer::new(dir.path().join("bottom"))
        .file("base", bytes(5000))
        .dir("d");
    let mut layers = vec![("bottom".to_owned(), None, base.finish())];
    for at in 0..nr {
        let name = format!("layer{at:04}");
        let parent = if deep {
            layers[at].0.clone()
        } else {
            "bottom".into()
        };
        let layer = Layer::new(dir.path().join(&name))
            .file(format!("d/{at}"), bytes(at))
            .whiteout(format!("d/{}", at / 2));
        layers.push((name, Some(parent), layer.finish()));
    }
    layers
}

/// Writes all, and looks into a few.
fn judge_some(layers: &[Source]) {
    let dir = in_memory();
    let options = of_size(Some(Bytes::mib(64)));
    let layout = lay_out(layers, &options).unwrap();
    let files = PoolFiles::write(&layout, dir.path());
    let last = layout.devices.len() - 1;
    let some = [0, 1, 2, last / 2, last].map(|at| &layout.plan.devices[at]);
    files.judge_devices(layers, some);
}

#[test]
fn a_chain_of_400_layers() {
    let dir = TempDir::new().unwrap();
    judge_some(&siblings(&dir, 400, true));
}

#[test]
fn three_hundred_siblings() {
    let dir = TempDir::new().unwrap();
    judge_some(&siblings(&dir, 300, false));
}

#[test]
fn a_directory_may_have_more_than_65000_subdirectories() {
    // A disk would take a minute and a half to make and remove them.
    let dir = in_memory();
    let base = Layer::new(dir.path().join("a")).dir("d").finish();
    for at in 0..65_100 {
        fs::create_dir(base.join(format!("d/{at}"))).unwrap();
    }
    let top = Layer::new(dir.path().join("b"));
    let top = (0..200).fold(top, |layer, at| layer.whiteout(format!("d/{at}")));
    let layers = chain(&[base, top.dir("d/more").finish()]);
    let layout = lay_out(&layers, &of_size(Some(Bytes::gib(2)))).unwrap();
    let out = in_memory();
    let files = PoolFiles::write(&layout, out.path());
    let dumps = files.dump();
    // Beyond 64998 subdirectories ext4 counts one link; e2fsck knows.
    for (device, expected) in [(2, (65_100, 1)), (3, (64_901, 64_903))] {
        let flat = files.flat(&dumps[&device]);
        flat.check();
        let mounted = flat.mount("ro,noload");
        let large = mounted.rootfs().join("d");
        let entries = fs::read_dir(&large).unwrap().count();
        let links = large.metadata().unwrap().nlink();
        assert_eq!((entries, links), expected, "device {device}");
    }
}
