//! Branches that no aufs would leave: each is refused with the path at fault, or read as the rules say.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use aufs2dm::aufs::{Error, Finding, read_branch};
use aufs2dm::tree::{Kind, LayerTree};
use nix::dir::Dir;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;
use tempfile::TempDir;
use xattr::FileExt;

use super::branch::{Read, listing, read};
use crate::support::layer::Layer;
use crate::support::walk::os;

/// A branch, what its root then says, and what is reported: path, whether it deletes, whether it is kept.
type Irregular = (
    fn(Layer) -> Layer,
    &'static [&'static str],
    (&'static str, bool, bool),
);

const IRREGULAR: &[Irregular] = &[
    (|l| l.fifo(".wh.x"), &["-x"], (".wh.x", true, false)),
    (|l| l.dir(".wh.x"), &["-x"], (".wh.x", true, false)),
    (
        |l| l.symlink(".wh.x", "/etc/passwd"),
        &["-x"],
        (".wh.x", true, false),
    ),
    (
        |l| l.char_device(".wh.x", 0, 0),
        &["-x"],
        (".wh.x", true, false),
    ),
    (|l| l.socket(".wh.x"), &["-x"], (".wh.x", true, false)),
    (
        |l| l.file(".wh.x/y/z", "kept"),
        &["-x", "=.wh.x"],
        (".wh.x", true, true),
    ),
    (
        |l| l.whiteout(".wh.x/y").file("x", "hidden"),
        &["-x", "=.wh.x"],
        (".wh.x", true, true),
    ),
    (
        |l| l.dir(".wh..wh..opq"),
        &["*"],
        (".wh..wh..opq", true, false),
    ),
    (
        |l| l.symlink(".wh..wh..opq", "x"),
        &["*"],
        (".wh..wh..opq", true, false),
    ),
    (
        |l| l.file(".wh..wh..opq/x", "kept").file("y", ""),
        &["*", "=.wh..wh..opq", "=y"],
        (".wh..wh..opq", true, true),
    ),
    (|l| l.dir(".wh."), &[], (".wh.", false, false)),
    (
        |l| l.file(".wh../x", "kept"),
        &["=.wh.."],
        (".wh..", false, true),
    ),
];

#[test]
fn a_whiteout_of_any_other_type_deletes_and_what_lies_in_it_is_kept() {
    for (make, expected, (path, deletes, is_kept)) in IRREGULAR {
        let Read { branch, .. } = read(make);
        assert_eq!(listing(&branch.tree, ""), *expected, "{path}");
        let finding = Finding::IrregularWhiteout {
            path: path.as_bytes().into(),
            deletes: *deletes,
            is_kept: *is_kept,
        };
        assert!(branch.findings.contains(&finding), "{:?}", branch.findings);
    }
    let read = read(|l| l.file(".wh.x/y/z", "kept"));
    assert_eq!(listing(&read.branch.tree, ".wh.x/y"), ["=z"]);
}

#[test]
fn a_symbolic_link_in_the_place_of_a_branch_is_not_followed() {
    let dir = TempDir::new().unwrap();
    Layer::new(dir.path().join("branch")).file("x", "").finish();
    symlink("branch", dir.path().join("link")).unwrap();
    for link in ["link", "link/", "link/."] {
        let error = read_branch(&dir.path().join(link), None).unwrap_err();
        assert!(
            matches!(error, Error::NotADirectory { .. }),
            "{link}: {error}"
        );
    }
}

#[test]
fn a_branch_that_is_missing_or_a_file_is_refused() {
    let dir = TempDir::new().unwrap();
    let error = read_branch(&dir.path().join("none"), None).unwrap_err();
    assert!(matches!(error, Error::NoBranch { .. }), "{error}");
    fs::write(dir.path().join("file"), "").unwrap();
    let error = read_branch(&dir.path().join("file"), None).unwrap_err();
    assert!(matches!(error, Error::NotADirectory { .. }), "{error}");
}

#[test]
fn links_out_of_the_branch_are_read_as_links() {
    let dir = TempDir::new().unwrap();
    let branch = Layer::new(dir.path().join("branch"))
        .symlink("etc", "/etc")
        .symlink("loop", "loop")
        .symlink("up", "../..")
        .finish();
    let tree = read_branch(&branch, None).unwrap().tree;
    let root = tree.directory(LayerTree::ROOT).unwrap();
    for (name, target) in [("etc", "/etc"), ("loop", "loop"), ("up", "../..")] {
        let node = tree.node(root.entry(name.as_bytes()).unwrap());
        assert_eq!(node.kind, Kind::Symlink(target.as_bytes().into()));
    }
}

#[test]
fn an_xattr_set_as_large_as_the_file_system_takes_is_read_whole() {
    // A tmpfs takes values of 64 KiB, ext4 only of a block.
    let dir = TempDir::new().unwrap();
    let tmpfs = Mounted::tmpfs(dir.path());
    let value = vec![0xa5; 65_536];
    let mut layer = Layer::new(tmpfs.0.join("branch")).file("f", "");
    layer = layer.xattr("f", "trusted.large", &value);
    for number in 0..200 {
        let name = format!("trusted.{number:0>200}");
        layer = layer.xattr("f", &name, b"v");
    }
    let tree = read_branch(&layer.finish(), None).unwrap().tree;
    let file = tree
        .directory(LayerTree::ROOT)
        .unwrap()
        .entry(b"f")
        .unwrap();
    let xattrs = &tree.node(file).meta.xattrs;
    assert_eq!(xattrs.iter().count(), 201);
    let large = xattrs.iter().find(|(name, _)| name == b"trusted.large");
    assert_eq!(large.unwrap().1, value);
}

#[test]
fn a_file_system_mounted_in_a_branch_is_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let branch = Layer::new(dir.path().join("branch"))
        .dir("a/mounted")
        .finish();
    let _mounted = Mounted::tmpfs(&branch.join("a/mounted"));
    let error = read_branch(&branch, None).unwrap_err();
    let Error::OtherFileSystem { path } = &error else {
        panic!("{error}")
    };
    assert_eq!(*path, branch.join("a/mounted"));
}

#[test]
fn names_of_arbitrary_bytes_survive() {
    let dir = TempDir::new().unwrap();
    let mut layer = Layer::new(dir.path().join("branch"));
    let mut expected = Vec::new();
    for byte in (1..=255_u8).filter(|byte| !b"/.".contains(byte)) {
        expected.push(vec![byte]);
        layer = layer.file(os(&[byte]), "");
    }
    let tree = read_branch(&layer.finish(), None).unwrap().tree;
    let root = tree.directory(LayerTree::ROOT).unwrap();
    let found: Vec<_> = root.entries().map(|entry| entry.name.to_vec()).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_deep_tree_is_read_to_its_end() {
    let dir = TempDir::new().unwrap();
    let deep = "d/".repeat(1500) + "file";
    let branch = Layer::new(dir.path().join("branch"))
        .file(&deep, "")
        .finish();
    let tree = read_branch(&branch, None).unwrap().tree;
    assert_eq!(tree.nr_nodes(), 1502);
}

#[test]
fn a_path_longer_than_the_kernel_takes_is_read_to_its_end() {
    let dir = TempDir::new().unwrap();
    let branch = Layer::new(dir.path().join("branch")).finish();
    let name = "n".repeat(255);
    let mut at = Dir::open(&branch, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..40 {
        mkdirat(&at, name.as_str(), Mode::S_IRWXU).unwrap();
        at = Dir::openat(&at, name.as_str(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    }
    let flags = OFlag::O_CREAT | OFlag::O_WRONLY;
    let file: File = openat(&at, "file", flags, Mode::S_IRWXU).unwrap().into();
    file.set_len(1 << 20).unwrap();
    file.set_xattr("trusted.t", b"value").unwrap();
    symlinkat("target", &at, "link").unwrap();
    let link = format!("/proc/self/fd/{}/link", at.as_raw_fd());
    xattr::set(link, "trusted.l", b"of the link").unwrap();
    openat(&at, ".wh.gone", flags, Mode::S_IRWXU).unwrap();
    let tree = read_branch(&branch, None).unwrap().tree;
    let deepest = (0..40).fold(LayerTree::ROOT, |node, _| {
        let directory = tree.directory(node).unwrap();
        directory.entry(name.as_bytes()).unwrap()
    });
    let directory = tree.directory(deepest).unwrap();
    assert!(directory.removes(b"gone"));
    let node = |name: &str| tree.node(directory.entry(name.as_bytes()).unwrap());
    let xattrs = |name| node(name).meta.xattrs.iter().next().unwrap().1.to_vec();
    assert_eq!(xattrs("file"), b"value");
    assert_eq!(xattrs("link"), b"of the link");
    assert_eq!(node("link").kind, Kind::Symlink(b"target"[..].into()));
    let Kind::Regular(file) = &node("file").kind else {
        panic!("{:?}", node("file"))
    };
    assert_eq!(
        file.segments.as_deref(),
        Some(&vec![]),
        "all of it is a hole"
    );
}

#[test]
fn an_error_in_a_deep_directory_has_its_whole_path() {
    let dir = TempDir::new().unwrap();
    let branch = Layer::new(dir.path().join("branch"))
        .dir("a/b/c/mounted")
        .finish();
    let _mounted = Mounted::tmpfs(&branch.join("a/b/c/mounted"));
    let error = read_branch(&branch, None).unwrap_err();
    let path = branch.join("a/b/c/mounted");
    assert_eq!(
        error.to_string(),
        format!("{}: another file system is mounted here", path.display())
    );
}

/// A mounted tmpfs, unmounted when dropped.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn tmpfs(at: &Path) -> Self {
        let kind = Some("tmpfs");
        mount(kind, at, kind, MsFlags::empty(), None::<&str>).unwrap();
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}
