//! Branches that no aufs would leave: each is refused with the path at fault, or harmless.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use aufs2dm::aufs::{Error, read_branch};
use aufs2dm::tree::{Kind, LayerTree};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, mkdirat};
use tempfile::TempDir;

use crate::support::layer::Layer;
use crate::support::walk::os;

fn refused(make: impl FnOnce(Layer) -> Layer) -> (Error, TempDir) {
    let dir = TempDir::new().unwrap();
    let branch = make(Layer::new(dir.path().join("branch"))).finish();
    (read_branch(&branch, None).unwrap_err(), dir)
}

#[test]
fn a_whiteout_of_any_other_type_is_refused_by_name() {
    type Make = fn(Layer) -> Layer;
    let cases: &[(&str, Make)] = &[
        (".wh.x", |l| l.fifo(".wh.x")),
        (".wh.x", |l| l.dir(".wh.x")),
        (".wh.x", |l| l.symlink(".wh.x", "/etc/passwd")),
        (".wh.x", |l| l.char_device(".wh.x", 0, 0)),
        ("d/.wh.x", |l| l.socket("d/.wh.x")),
        ("d/.wh..wh..opq", |l| l.file("d/.wh..wh..opq/x", "")),
        (".wh.", |l| l.dir(".wh.")),
    ];
    for (name, make) in cases {
        let (error, dir) = refused(make);
        let path = dir.path().join("branch").join(name);
        assert!(
            matches!(&error, Error::BadWhiteout { path: at } if *at == path),
            "{error}"
        );
        let message = format!("{}: whiteout is not a regular file", path.display());
        assert_eq!(error.to_string(), message);
    }
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
fn a_path_too_long_for_the_kernel_is_refused_and_not_skipped() {
    let dir = TempDir::new().unwrap();
    let branch = Layer::new(dir.path().join("branch")).finish();
    let name = "n".repeat(255);
    let mut at = Dir::open(&branch, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..20 {
        mkdirat(&at, name.as_str(), Mode::S_IRWXU).unwrap();
        at = Dir::openat(&at, name.as_str(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    }
    let error = read_branch(&branch, None).unwrap_err();
    let Error::Io { source, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(source.raw_os_error(), Some(Errno::ENAMETOOLONG as i32));
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
