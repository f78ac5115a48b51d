//! What one branch is read as, rule by rule.

use std::cell::Cell;

use aufs2dm::aufs::{Branch, Counts, Error, Finding, read_branch, read_branch_unless};
use aufs2dm::tree::{Kind, LayerTree, Node, NodeId, Segment, Timestamp};
use aufs2dm::units::Bytes;
use tempfile::TempDir;

use crate::support::layer::Layer;
use crate::support::random::acl;
use crate::support::walk::os;

/// A step that fills a branch.
pub(crate) type Make = fn(Layer) -> Layer;

/// A branch on disk and what it was read as.
pub(crate) struct Read {
    pub(crate) dir: TempDir,
    pub(crate) branch: Branch,
}

pub(crate) fn read(make: impl FnOnce(Layer) -> Layer) -> Read {
    let dir = TempDir::new().unwrap();
    let path = make(Layer::new(dir.path().join("branch"))).finish();
    let branch = read_branch(&path, None).unwrap();
    Read { dir, branch }
}

fn node<'a>(tree: &'a LayerTree, path: &str) -> &'a Node {
    tree.node(find(tree, path).unwrap_or_else(|| panic!("{path} is there")))
}

fn find(tree: &LayerTree, path: &str) -> Option<NodeId> {
    path.split('/').try_fold(LayerTree::ROOT, |at, name| {
        tree.directory(at)?.entry(name.as_bytes())
    })
}

/// What the directory at `path` says, as `=` and `-` lines for names and removed names, `*` when opaque.
pub(crate) fn listing(tree: &LayerTree, path: &str) -> Vec<String> {
    let id = if path.is_empty() {
        LayerTree::ROOT
    } else {
        find(tree, path).unwrap()
    };
    let directory = tree.directory(id).unwrap();
    let opaque = directory.is_opaque().then(|| "*".to_owned());
    let removed = directory
        .removed()
        .map(|name| format!("-{}", name.escape_ascii()));
    let entries = directory
        .entries()
        .map(|entry| format!("={}", entry.name.escape_ascii()));
    opaque.into_iter().chain(removed).chain(entries).collect()
}

/// A branch's content, and what the root directory then says.
const NAMES: &[(&str, Make, &[&str])] = &[
    ("whiteout", |l| l.whiteout("x"), &["-x"]),
    (
        "whiteout of a hidden file",
        |l| l.whiteout(".whdir"),
        &["-.whdir"],
    ),
    (
        "whiteout of bytes",
        |l| l.whiteout(os(b"\xff")),
        &["-\\xff"],
    ),
    (
        "longest whiteout",
        |l| l.whiteout("n".repeat(251)),
        &["-LONG"],
    ),
    ("opaque root", |l| l.opaque("").file("x", ""), &["*", "=x"]),
    (
        "aufs's own files",
        |l| l.aufs_files().whiteout("x"),
        &["-x"],
    ),
    (
        "own files deeper",
        |l| l.file("d/.wh..wh.plnk/1.2", "").file("d/.wh..wh.aufs", ""),
        &["=d"],
    ),
    (
        "leftover directory",
        |l| l.file(".wh..wh.d.0f3c/x/y", ""),
        &[],
    ),
    ("orphan", |l| l.aufs_files().file(".wh..wh.orph/1", ""), &[]),
    (
        "only looks like metadata",
        |l| l.file("..wh.x", "").file(".whatever", ""),
        &["=..wh.x", "=.whatever"],
    ),
    (
        "other names",
        |l| l.file(".wh", "").file(".wh_x", "").dir(".WH."),
        &["=.WH.", "=.wh", "=.wh_x"],
    ),
    ("whiteout of no name", |l| l.file(".wh.", ""), &[]),
    ("whiteout of a dot", |l| l.file(".wh..", ""), &[]),
    ("whiteout of two dots", |l| l.file(".wh...", ""), &[]),
    (
        "whiteout of three dots",
        |l| l.file(".wh....", ""),
        &["-..."],
    ),
    (
        "name and whiteout",
        |l| l.whiteout("x").file("x", ""),
        &["-x"],
    ),
    (
        "tree and whiteout",
        |l| l.whiteout("x").file("x/y/z", ""),
        &["-x"],
    ),
];

#[test]
fn each_kind_of_name_is_read_as_what_it_means() {
    let long = "n".repeat(251);
    for (what, make, expected) in NAMES {
        let found = listing(&read(make).branch.tree, "");
        let expected: Vec<_> = expected
            .iter()
            .map(|line| line.replace("LONG", &long))
            .collect();
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn an_opaque_directory_keeps_its_own_names() {
    let read = read(|l| l.file("d/own", "").opaque("d").whiteout("d/gone"));
    assert_eq!(listing(&read.branch.tree, ""), ["=d"]);
    assert_eq!(listing(&read.branch.tree, "d"), ["*", "-gone", "=own"]);
}

#[test]
fn every_attribute_of_every_type_is_read() {
    let Read { branch, .. } = read(|l| {
        l.file("f", "content")
            .symlink("s", "t".repeat(4095))
            .char_device("c", 4095, 1_048_575)
            .block_device("b", 7, 200)
            .fifo("p")
            .socket("k")
            .dir("d")
            .owner("f", 4_000_000_000, 65_536)
            .mode("f", 0o6751)
            .mode("d", 0o1777)
            .xattr("f", "user.u", &[0xff; 1000])
            .xattr("d", "system.posix_acl_default", &acl(1000))
            .xattr("s", "trusted.s", b"")
            .xattr("c", "trusted.c", b"c")
            .xattr("p", "trusted.p", b"p")
            .xattr("k", "security.selinux", b"k\0")
            .time("f", -5, 999_999_999)
            .time("s", 5_000_000_000, 1)
    });
    let node = |path| node(&branch.tree, path);
    let file = node("f");
    assert_eq!(
        (file.meta.uid, file.meta.gid, file.meta.mode),
        (4_000_000_000, 65_536, 0o6751)
    );
    assert_eq!(file.meta.mtime, Timestamp::new(-5, 999_999_999));
    assert_eq!(file.meta.atime, Timestamp::new(-5, 999_999_999));
    assert_eq!(node("d").meta.mode, 0o1777);
    assert_eq!(node("s").meta.mtime, Timestamp::new(5_000_000_000, 1));
    let kinds = ["s", "c", "b", "p", "k"].map(|path| format!("{:?}", node(path).kind));
    assert!(kinds[0].starts_with("Symlink([116, 116"), "{}", kinds[0]);
    let rest = [
        "CharDevice(DeviceNumber { major: 4095, minor: 1048575 })",
        "BlockDevice(DeviceNumber { major: 7, minor: 200 })",
        "Fifo",
        "Socket",
    ];
    assert_eq!(kinds[1..], rest);
    for (path, name, value) in [
        ("f", "user.u", vec![0xff; 1000]),
        ("d", "system.posix_acl_default", acl(1000)),
        ("s", "trusted.s", Vec::new()),
        ("c", "trusted.c", b"c".to_vec()),
        ("p", "trusted.p", b"p".to_vec()),
        ("k", "security.selinux", b"k\0".to_vec()),
    ] {
        let found: Vec<_> = node(path).meta.xattrs.iter().collect();
        assert_eq!(found, [(name.as_bytes(), &value[..])], "{path}");
    }
}

#[test]
fn the_change_time_is_that_of_the_inode() {
    use std::os::unix::fs::MetadataExt;
    let read = read(|l| l.file("f", "").time("f", 1, 2));
    let stat = read.dir.path().join("branch/f").symlink_metadata().unwrap();
    let ctime = node(&read.branch.tree, "f").meta.ctime;
    assert_eq!(
        (ctime.sec(), i64::from(ctime.nsec())),
        (stat.ctime(), stat.ctime_nsec())
    );
}

#[test]
fn holes_are_found_and_files_without_any_are_whole() {
    let read = read(|l| {
        l.sparse("middle", 1 << 20, &[(0, b"a"), (512 << 10, b"b")])
            .sparse("empty", 1 << 20, &[])
            .sparse("tail", (1 << 20) + 1, &[(1 << 20, b"z")])
            .file("full", vec![1; 100_000])
            .file("nothing", "")
    });
    let segments = |path| match &node(&read.branch.tree, path).kind {
        Kind::Regular(file) => file.segments.as_ref().map(|segments| segments.to_vec()),
        other => panic!("{other:?}"),
    };
    let run = |start: u64, end: u64| Segment { start, end };
    let block = 4096;
    let half = 512 << 10;
    assert_eq!(
        segments("middle"),
        Some(vec![run(0, block), run(half, half + block)])
    );
    assert_eq!(segments("empty"), Some(vec![]));
    assert_eq!(segments("tail"), Some(vec![run(1 << 20, (1 << 20) + 1)]));
    assert_eq!(segments("full"), None);
    assert_eq!(segments("nothing"), None);
}

#[test]
fn names_of_one_inode_are_one_node_whatever_else_links_to_it() {
    let read = read(|l| {
        l.aufs_files()
            .file("a", "12345")
            .hard_link("a", "d/b")
            .hard_link("a", ".wh..wh.plnk/7.8")
            .fifo("p")
            .hard_link("p", "q")
            .symlink("s", "x")
            .hard_link("s", "t")
    });
    let id = |path| find(&read.branch.tree, path).unwrap();
    assert_eq!(id("a"), id("d/b"));
    assert_eq!(id("p"), id("q"));
    assert_eq!(id("s"), id("t"));
    assert_ne!(id("a"), id("p"));
    // The root, `d` and three inodes.
    assert_eq!(read.branch.tree.nr_nodes(), 5);
}

#[test]
fn equal_xattr_sets_are_kept_once() {
    let read = read(|l| {
        (0..3).fold(l, |l, number| {
            let name = format!("f{number}");
            l.file(&name, "").xattr(&name, "user.same", b"value")
        })
    });
    let value = |path| {
        let (_, value) = node(&read.branch.tree, path)
            .meta
            .xattrs
            .iter()
            .next()
            .unwrap();
        value.as_ptr()
    };
    assert_eq!((value("f0"), value("f0")), (value("f1"), value("f2")));
}

#[test]
fn counts_say_how_much_there_is() {
    let read = read(|l| {
        l.aufs_files()
            .file("a", "12345")
            .hard_link("a", "b")
            .sparse("d/s", 1000, &[])
            .whiteout("x")
            .whiteout("d/y")
            .opaque("d")
            .file(".wh..wh.d.0f3c/x", "not counted")
    });
    let expected = Counts {
        entries: 4,
        bytes: Bytes(1005),
        whiteouts: 2,
        opaque_markers: 1,
    };
    assert_eq!(read.branch.counts, expected);
}

#[test]
fn what_an_operator_should_know_is_found() {
    let read = read(|l| {
        l.aufs_files()
            .file("d/b", "")
            .hard_link("d/b", "a")
            .pseudo_link("a", "20.30")
            .file(".wh..wh.plnk/40.50", "lost")
            .file(".wh.", "")
            .file("d/.wh.full", "x")
            .whiteout("both")
            .file("both", "")
    });
    let path = |text: &str| text.as_bytes().into();
    let expected = [
        Finding::PseudoLink {
            link: path("20.30"),
            names: vec![path("a"), path("d/b")],
        },
        Finding::PseudoLink {
            link: path("40.50"),
            names: vec![],
        },
        Finding::Conflict {
            path: path("both"),
            kept: false,
        },
        Finding::FilledWhiteout {
            path: path("d/.wh.full"),
        },
        Finding::UnnamedWhiteout { path: path(".wh.") },
    ];
    assert_eq!(read.branch.findings, expected);
}

#[test]
fn reading_ends_at_the_entry_at_which_it_is_stopped() {
    let dir = TempDir::new().unwrap();
    let layer = Layer::new(dir.path().join("branch"));
    let path = layer.file("a", b"").file("b", b"").file("c", b"").finish();
    let asked = Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() == 3
    };
    let error = read_branch_unless(&stop, &path, None).unwrap_err();
    assert!(matches!(error, Error::Stopped));
    assert_eq!(asked.get(), 3);
}
