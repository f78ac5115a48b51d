//! Layers that lost what has no content: their tar's headers still name it, so `verify` does, before a conversion and after.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::run::Tool;
use super::support::fixture::unpack;

/// The first entry of images' branches that suits, in the order of names.
fn first(root: &Path, suits: impl Fn(&DirEntry) -> bool) -> PathBuf {
    let layers = root.join("image/aufs/layerdb/sha256");
    let mut branches: Vec<_> = fs::read_dir(layers)
        .unwrap()
        .map(|layer| fs::read_to_string(layer.unwrap().path().join("cache-id")).unwrap())
        .map(|id| root.join("aufs/diff").join(id))
        .collect();
    branches.sort();
    let entries = branches.iter().flat_map(|branch| {
        let walk = WalkDir::new(branch).min_depth(1).sort_by_file_name();
        walk.into_iter().map(Result::unwrap)
    });
    entries.into_iter().find(suits).unwrap().into_path()
}

fn is_whiteout(entry: &DirEntry) -> bool {
    let name = entry.file_name().as_bytes();
    name.starts_with(b".wh.") && !name.starts_with(b".wh..wh.")
}

fn is_own(entry: &DirEntry) -> bool {
    !entry.file_name().as_bytes().starts_with(b".wh.")
        && entry.file_name().to_str().is_some_and(str::is_ascii)
}

fn is_plain_file(entry: &DirEntry) -> bool {
    let meta = entry.metadata().unwrap();
    is_own(entry) && meta.is_file() && std::os::unix::fs::MetadataExt::nlink(&meta) == 1
}

fn is_empty_directory(entry: &DirEntry) -> bool {
    is_own(entry)
        && entry.file_type().is_dir()
        && fs::read_dir(entry.path()).unwrap().next().is_none()
}

/// Does a damage to a root before any conversion. It must be named then, be carried over, and be told from damage by the conversion.
fn named(suits: impl Fn(&DirEntry) -> bool, damage: impl Fn(&Path)) {
    let (tool, dir) = (Tool::new(), unpack("small.tar.xz"));
    let root = dir.path().join("docker");
    let at = first(&root, suits);
    damage(&at);
    let name = at.file_name().unwrap().to_str().unwrap();
    let name = name.strip_prefix(".wh.").unwrap_or(name);
    let before = tool.run("verify", &root, &["--full"]);
    assert_eq!(before.code, Some(3), "{}: {before:?}", at.display());
    assert!(before.out.contains(name), "{name}: {before:?}");
    assert!(before.out.contains("image lab/"), "{before:?}");
    tool.run("convert", &root, &[]).expect(0, &[name]);
    let after = tool.run("verify", &root, &["--full"]);
    assert_eq!(after.code, Some(3), "{}: {after:?}", at.display());
    assert!(after.out.contains(name), "{name}: {after:?}");
    assert!(after.out.contains("before the conversion"), "{after:?}");
    assert!(!after.out.contains("SOMETHING IS WRONG"), "{after:?}");
}

#[test]
fn a_whiteout_that_is_gone_is_named() {
    named(is_whiteout, |at| fs::remove_file(at).unwrap());
}

#[test]
fn a_symbolic_link_that_is_gone_is_named() {
    let is_link = |entry: &DirEntry| is_own(entry) && entry.path_is_symlink();
    named(is_link, |at| fs::remove_file(at).unwrap());
}

#[test]
fn an_empty_directory_that_is_gone_is_named() {
    named(is_empty_directory, |at| fs::remove_dir(at).unwrap());
}

#[test]
fn a_special_file_that_is_gone_is_named() {
    let is_special = |entry: &DirEntry| {
        let kind = entry.file_type();
        is_own(entry) && (kind.is_fifo() || kind.is_char_device())
    };
    named(is_special, |at| fs::remove_file(at).unwrap());
}

#[test]
fn another_mode_and_another_owner_are_named() {
    named(is_plain_file, |at| {
        fs::set_permissions(at, fs::Permissions::from_mode(0o4111)).unwrap();
    });
    named(is_plain_file, |at| {
        lchown(at, Some(4321), Some(1234)).unwrap();
    });
}
