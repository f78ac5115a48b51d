//! A directory stands for a device here: what the kernel shows of a device looks the same.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use tempfile::TempDir;

use super::compare::{MergeComparison, compare};
use super::digest::digest;
use super::read::read_tree;
use crate::aufs::read_branch;
use crate::content::ReadJob;
use crate::progress::{Cancel, Phase, Progress};
use crate::tree::LayerTree;

struct Quiet;

impl Progress for Quiet {
    fn start(&self, _: Phase, _: u64) {}
    fn inc(&self, _: u64) {}
    fn finish(&self) {}
}

/// Writes a file with a fixed modification time.
fn file(dir: &Path, path: &str, content: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    settle(&path);
}

fn settle(path: &Path) {
    let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::open(path).unwrap().set_modified(time).unwrap();
}

/// Sets the times of all directories, which the creation of entries has changed.
fn settle_directories(dir: &Path) {
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry.unwrap();
        if entry.file_type().is_dir() {
            settle(entry.path());
        }
    }
}

/// Two branches, the topmost first, and the device that holds their merge.
fn merged() -> (TempDir, [LayerTree; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let [below, above, device] = ["below", "above", "device"].map(|name| dir.path().join(name));
    for at in [&below, &device] {
        file(at, "kept/file", "kept");
        file(at, "data", "lower");
        fs::hard_link(at.join("data"), at.join("data2")).unwrap();
    }
    for gone in ["gone", "opaque/old", "both/hidden"] {
        file(&below, gone, "x");
    }
    file(&below, "both/seen", "seen");
    file(&device, "both/seen", "seen");
    for at in [&above, &device] {
        file(at, "opaque/new", "new");
        file(at, "both/added", "added");
    }
    for whiteout in [".wh.gone", "opaque/.wh..wh..opq", "both/.wh.hidden"] {
        file(&above, whiteout, "");
    }
    for at in [&below, &above, &device] {
        settle_directories(at);
    }
    let trees = [above, below].map(|branch| read_branch(&branch, None).unwrap().tree);
    (dir, trees)
}

fn compared(dir: &TempDir, layers: &[LayerTree]) -> MergeComparison {
    let cancel = Cancel::default();
    let work = ReadJob::new(&cancel, &Quiet);
    let root = File::open(dir.path().join("device")).unwrap();
    let found = read_tree(&work, root).unwrap();
    let mut merged = compare(&layers.iter().collect::<Vec<_>>(), &found.tree);
    for fault in found.faults.first {
        merged.faults.push(fault);
    }
    merged
}

#[test]
fn a_device_that_is_the_merge_of_its_layers_has_no_fault() {
    let (dir, layers) = merged();
    let merged = compared(&dir, &layers);
    assert!(merged.faults.is_empty(), "{:?}", merged.faults);
    assert_eq!(merged.entries, 4, "opaque, new, both, added");
    let own = merged.files.iter().filter(|((layer, _), _)| *layer == 0);
    assert_eq!((own.count(), merged.files.len()), (2, 5));
}

fn other_mode(at: &Path) {
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(at.join("kept"), mode).unwrap();
}

fn other_type(at: &Path) {
    fs::remove_file(at.join("both/seen")).unwrap();
    symlink("x", at.join("both/seen")).unwrap();
}

fn parted(at: &Path) {
    fs::remove_file(at.join("data2")).unwrap();
    file(at, "data2", "lower");
}

fn linked_elsewhere(at: &Path) {
    fs::hard_link(at.join("data"), at.join("../elsewhere")).unwrap();
}

fn other_time(at: &Path) {
    let data = File::open(at.join("data")).unwrap();
    data.set_modified(UNIX_EPOCH).unwrap();
}

fn removed(at: &Path) {
    fs::remove_file(at.join("kept/file")).unwrap();
}

/// A change to a device, and the expected fault.
type Case = (fn(&Path), &'static str);

const DAMAGE: &[Case] = &[
    (removed, "/kept/file: is missing"),
    (other_mode, "/kept: mode is 0600"),
    (other_type, "/both/seen: has a different type"),
    (parted, "is not the same file as its other name"),
    (
        linked_elsewhere,
        "/data: has a link count of 3, but 2 names found",
    ),
    (other_time, "/data: modification time is"),
];

/// A file with its content, and the expected fault.
const FILES: &[(&str, &str, &str)] = &[
    ("gone", "x", "/gone: exists, but a layer removes it"),
    ("opaque/old", "x", "/opaque/old: exists, but not in aufs"),
    (
        "both/hidden",
        "x",
        "/both/hidden: exists, but a layer removes it",
    ),
    (
        "kept/.wh.file",
        "",
        "/kept/.wh.file: exists, but not in aufs",
    ),
    (
        "both/added",
        "longer",
        "/both/added: size is 6, but 5 in aufs",
    ),
];

#[test]
fn any_difference_is_found_and_named() {
    let expect = |damage: &dyn Fn(&Path), named: &str| {
        let (dir, layers) = merged();
        damage(&dir.path().join("device"));
        let faults = compared(&dir, &layers).faults;
        let is_named = faults.first.iter().any(|fault| fault.contains(named));
        assert!(is_named, "{named}: {faults:?}");
    };
    for (damage, named) in DAMAGE {
        expect(damage, named);
    }
    for (path, content, named) in FILES {
        expect(&|at| file(at, path, content), named);
    }
}

fn digest_of(dir: &TempDir) -> String {
    let cancel = Cancel::default();
    let work = ReadJob::new(&cancel, &Quiet);
    let root = File::open(dir.path().join("device")).unwrap();
    digest(&read_tree(&work, root).unwrap().tree)
}

#[test]
fn a_digest_is_of_the_entries_and_changes_with_each_of_them() {
    let (dir, _layers) = merged();
    let before = digest_of(&dir);
    let (same, _layers) = merged();
    assert_eq!(before, digest_of(&same));
    fs::write(same.path().join("device/both/added"), "other").unwrap();
    settle(&same.path().join("device/both/added"));
    assert_eq!(before, digest_of(&same), "bytes are no part of it");

    let mut all = vec![before];
    let mut after = |damage: &dyn Fn(&Path)| {
        let (dir, _layers) = merged();
        damage(&dir.path().join("device"));
        all.push(digest_of(&dir));
    };
    for (damage, named) in DAMAGE {
        // For a name outside the tree, the kernel shows only that the number of names is higher.
        if !named.contains("2 names found") {
            after(damage);
        }
    }
    for (path, content, _) in FILES {
        after(&|at| file(at, path, content));
    }
    after(&|at| xattr::set(at.join("data"), "user.a", b"b").unwrap());
    after(&|at| std::os::unix::fs::chown(at.join("data"), Some(7), None).unwrap());
    let nr = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), nr);
}

#[test]
fn a_tree_deeper_than_any_path_is_read_with_few_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let device = dir.path().join("device");
    fs::create_dir(&device).unwrap();
    let mut at = File::open(&device).unwrap();
    for _ in 0..2_500 {
        nix::sys::stat::mkdirat(&at, "d", nix::sys::stat::Mode::S_IRWXU).unwrap();
        let flags = nix::fcntl::OFlag::O_DIRECTORY;
        at = nix::fcntl::openat(&at, "d", flags, nix::sys::stat::Mode::empty())
            .unwrap()
            .into();
    }
    let cancel = Cancel::default();
    let work = ReadJob::new(&cancel, &Quiet);
    let found = read_tree(&work, File::open(&device).unwrap()).unwrap();
    assert!(found.faults.is_empty(), "{:?}", found.faults);
    assert_eq!(found.tree.nr_nodes(), 2_501);
    // The function that removes the directory does not go so deep.
    let (outer, aside) = (device.join("d"), dir.path().join("aside"));
    while fs::rename(outer.join("d"), &aside).is_ok() {
        fs::remove_dir(&outer).unwrap();
        fs::rename(&aside, &outer).unwrap();
    }
}
