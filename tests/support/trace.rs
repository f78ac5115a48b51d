//! A tree with all that a trace could be left in: names, kinds, modes, owners, contents, xattrs, and times.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::walk::entry;

/// What each path was, in words that differ when anything differs.
pub type Trace = BTreeMap<PathBuf, String>;

/// Everything at and below `root`. Looking changes access times, so the status of each path is taken before it is read.
pub fn trace(root: &Path) -> Trace {
    let tell = |(path, stat): (PathBuf, Metadata)| {
        let accessed = (stat.atime(), stat.atime_nsec());
        let text = format!("{} accessed {accessed:?}", told_but_read(&path, &stat));
        (path, text)
    };
    list(root).into_iter().map(tell).collect()
}

/// The same without access times, which looking changes.
pub fn trace_but_reads(root: &Path) -> Trace {
    let tell = |(path, stat): (PathBuf, Metadata)| {
        let text = told_but_read(&path, &stat);
        (path, text)
    };
    list(root).into_iter().map(tell).collect()
}

fn told_but_read(path: &Path, stat: &Metadata) -> String {
    let modified = (stat.mtime(), stat.mtime_nsec());
    let text = told(path, stat);
    format!("{text} links {} modified {modified:?}", stat.nlink())
}

/// The same without times and link counts.
pub fn contents(root: &Path) -> Trace {
    let tell = |(path, stat): (PathBuf, Metadata)| {
        let text = told(&path, &stat);
        (path, text)
    };
    list(root).into_iter().map(tell).collect()
}

/// Sparse files of gigabytes are told by their sizes alone.
fn told(path: &Path, stat: &Metadata) -> String {
    const HASHED: u64 = 8 << 20;
    if stat.is_file() && stat.len() > HASHED {
        return format!(
            "large file {} {} {:o}",
            stat.len(),
            stat.blocks(),
            stat.mode()
        );
    }
    let mut entry = entry(path);
    entry.mtime = 0;
    format!("{entry:?}")
}

fn list(root: &Path) -> Vec<(PathBuf, Metadata)> {
    let mut paths = Vec::new();
    add(root, &mut paths);
    paths
}

fn add(path: &Path, paths: &mut Vec<(PathBuf, Metadata)>) {
    let stat = path.symlink_metadata().unwrap();
    let is_dir = stat.is_dir();
    paths.push((path.to_owned(), stat));
    if is_dir {
        for entry in fs::read_dir(path).unwrap() {
            add(&entry.unwrap().path(), paths);
        }
    }
}

/// Gives everything an access time that the next read would move, on a file system mounted with relatime too: it is
/// older than the time of modification.
pub fn age(root: &Path) {
    for (path, _) in list(root) {
        let (accessed, modified) = (TimeSpec::new(1000, 1), TimeSpec::new(2000, 2));
        let flags = UtimensatFlags::NoFollowSymlink;
        utimensat(AT_FDCWD, &path, &accessed, &modified, flags).unwrap();
    }
}

/// Fails with the paths that differ, not with the whole of both.
#[track_caller]
pub fn assert_same(before: &Trace, after: &Trace) {
    let all = before.keys().chain(after.keys());
    let differ: BTreeMap<_, _> = all
        .filter(|path| before.get(*path) != after.get(*path))
        .map(|path| (path, (before.get(path), after.get(path))))
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
}
