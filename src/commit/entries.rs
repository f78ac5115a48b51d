//! All entries of a tree in the order of names, at any depth.

use std::ffi::{CString, OsStr};
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::open_path::{OpenDirectory, OpenPath};

/// One entry, or the top of the tree.
pub(super) struct TreeEntry<'a> {
    /// Its path below the top; empty for the top.
    pub(super) inner: &'a [u8],
    /// A path that leads to it, which may go through an open descriptor.
    pub(super) path: &'a Path,
    pub(super) meta: &'a Metadata,
}

/// Visits the top and everything below it: a directory before what lies in it, neighbours by name. Follows no link and
/// enters no other file system.
///
/// # Errors
///
/// The first entry that cannot be read, or that something else replaced meanwhile.
pub(super) fn for_each(top: &Path, mut visit: impl FnMut(&TreeEntry<'_>)) -> io::Result<()> {
    let meta = top.symlink_metadata()?;
    visit(&TreeEntry {
        inner: b"",
        path: top,
        meta: &meta,
    });
    if !meta.is_dir() {
        return Ok(());
    }
    let (mut path, _) = OpenPath::new(top)?;
    let device = meta.dev();
    let mut inner = Vec::new();
    // For each directory on the path, the length of its path and the names that are left, the next one last.
    let mut levels = vec![(0, names(path.current())?)];
    while let Some((length, left)) = levels.last_mut() {
        inner.truncate(*length);
        let Some(name) = left.pop() else {
            levels.pop();
            if !levels.is_empty() {
                path.leave()?.ok_or_else(replaced)?;
            }
            continue;
        };
        if !inner.is_empty() {
            inner.push(b'/');
        }
        inner.extend_from_slice(name.to_bytes());
        let at = path.current().path_of(&name);
        let meta = at.symlink_metadata()?;
        visit(&TreeEntry {
            inner: &inner,
            path: &at,
            meta: &meta,
        });
        if meta.is_dir() && meta.dev() == device {
            path.enter(&name, (device, meta.ino()))?
                .ok_or_else(replaced)?;
            levels.push((inner.len(), names(path.current())?));
        }
    }
    Ok(())
}

fn replaced() -> io::Error {
    io::Error::other("it was replaced while it was read")
}

/// The names in a directory, descending.
fn names(directory: &OpenDirectory) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in directory.list()?.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

/// Whether an entry is a symbolic link, and where it leads.
pub(super) fn target(entry: &TreeEntry<'_>) -> Option<Vec<u8>> {
    let target = entry.meta.is_symlink().then(|| entry.path.read_link())?;
    let target = target.ok()?;
    Some(OsStr::as_bytes(target.as_os_str()).to_vec())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::dir::Dir;
    use nix::fcntl::OFlag;
    use nix::sys::stat::{Mode, mkdirat};
    use nix::unistd::symlinkat;
    use walkdir::WalkDir;

    use super::*;

    fn visited(top: &Path) -> Vec<(Vec<u8>, u64)> {
        let mut found = Vec::new();
        for_each(top, |entry| {
            found.push((entry.inner.to_vec(), entry.meta.ino()));
        })
        .unwrap();
        found
    }

    #[test]
    fn entries_come_in_the_order_of_a_sorted_walk() {
        let dir = tempfile::tempdir().unwrap();
        for inner in ["a/b/c", "a!", "a-/x", "b/a/z", "b/b", "c"] {
            std::fs::create_dir_all(dir.path().join(inner)).unwrap();
        }
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        let expected: Vec<_> = WalkDir::new(dir.path())
            .sort_by_file_name()
            .into_iter()
            .map(|entry| {
                let entry = entry.unwrap();
                let inner = entry.path().strip_prefix(dir.path()).unwrap();
                (
                    inner.as_os_str().as_bytes().to_vec(),
                    entry.metadata().unwrap().ino(),
                )
            })
            .collect();
        assert_eq!(visited(dir.path()), expected);
        assert_eq!(visited(&dir.path().join("link")).len(), 1);
    }

    #[test]
    fn a_path_longer_than_the_kernel_takes_is_visited() {
        let dir = tempfile::tempdir().unwrap();
        let name = "n".repeat(255);
        let mut at = Dir::open(dir.path(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..40 {
            mkdirat(at.as_fd(), name.as_str(), Mode::S_IRWXU).unwrap();
            at = Dir::openat(at.as_fd(), name.as_str(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        }
        symlinkat("there", at.as_fd(), "link").unwrap();
        let mut last = (0, None);
        for_each(dir.path(), |entry| {
            last = (entry.inner.len(), target(entry));
        })
        .unwrap();
        assert_eq!(last, (40 * 256 + 4, Some(b"there".to_vec())));
    }
}
