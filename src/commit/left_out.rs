//! Distinguishes data in the directory of the aufs driver from the remains of data.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use walkdir::{DirEntry, WalkDir};

use super::regular_files::names_in;
use super::walk::walk;
use crate::aufs::Name;

/// Files without content that aufs creates in each branch. Its two directories there, `.wh..wh.plnk` and
/// `.wh..wh.orph`, hold data if they hold anything. A file of another name with this prefix shows in no mount, but it
/// is still somebody's.
const MARKERS: [&[u8]; 2] = [b".wh..wh.aufs", b".wh..wh..opq"];

/// The prefix of the names that aufs keeps to itself.
const HIDDEN: &str = ".wh..wh.";

/// The prefix of the names that say what a branch hides.
const WHITEOUT: &[u8] = b".wh.";

/// The directory in which aufs gives files with several names one more name.
const PSEUDO_LINKS: &str = ".wh..wh.plnk";

/// Whether `path` is a file, or a directory with a file somewhere in it, not counting aufs's own markers. Anything
/// unreadable counts as data.
pub(super) fn has_data(path: &Path) -> bool {
    let mut entries = WalkDir::new(path).follow_root_links(false).into_iter();
    entries.any(|entry| entry.map_or(true, |entry| is_data(&entry)))
}

/// Data at the top of a converted branch that aufs keeps to itself and shows nowhere: files that were unlinked while
/// open, and anything else with a name that aufs hides. As names in the branch. The first list includes pseudo-links
/// only if they are unreadable; the second has the others.
pub(super) fn hidden_in(branch: &Path) -> (Vec<String>, Vec<PseudoLink>) {
    let names = names_in(branch).unwrap_or_default();
    let hidden = names.into_iter().filter(|name| name.starts_with(HIDDEN));
    let (mut found, mut links) = (Vec::new(), Vec::new());
    for name in hidden {
        let path = branch.join(&name);
        if is_converted_directory(name.as_bytes(), &path) {
            continue;
        }
        if name != PSEUDO_LINKS {
            if has_data(&path) {
                found.push(name);
            }
            continue;
        }
        for entry in WalkDir::new(&path).follow_root_links(false) {
            let Ok((entry, meta)) = entry.and_then(|entry| {
                let meta = entry.metadata()?;
                Ok((entry, meta))
            }) else {
                found.push(name.clone());
                continue;
            };
            let is_empty = meta.is_file() && meta.len() == 0;
            if !meta.is_dir() && !is_empty {
                let inner = entry.path().strip_prefix(branch).unwrap_or(entry.path());
                links.push(PseudoLink {
                    path: inner.to_string_lossy().into_owned(),
                    file: (meta.dev(), meta.ino()),
                    names: meta.nlink(),
                });
            }
        }
    }
    (found, links)
}

/// A file in a directory of pseudo-links.
#[derive(Debug)]
pub(super) struct PseudoLink {
    /// Its path in the branch.
    pub(super) path: String,
    /// Its file system and inode.
    file: (u64, u64),
    /// The number of its names, wherever they are.
    names: u64,
}

/// Those pseudo-links of all branches whose data has no other name: the data of the others is visible somewhere.
pub(super) fn alone<T>(links: &[(T, PseudoLink)]) -> impl Iterator<Item = (&T, &PseudoLink)> {
    let mut seen: HashMap<(u64, u64), u64> = HashMap::new();
    for (_, link) in links {
        *seen.entry(link.file).or_default() += 1;
    }
    let all = links.iter().map(|(of, link)| (of, link));
    all.filter(move |(_, link)| seen.get(&link.file).is_some_and(|seen| *seen >= link.names))
}

/// Whether it is a directory with the name of a whiteout or an opaque marker: what lies in it is converted.
fn is_converted_directory(name: &[u8], path: &Path) -> bool {
    !matches!(Name::parse(name), Name::Own | Name::Metadata) && !path.is_symlink() && path.is_dir()
}

/// Anything in a branch, at any depth, under a name that aufs takes for its own, that has bytes or is not a file: aufs
/// creates whiteouts and markers without bytes, and shows nothing else with such a name. Directories with a whiteout's
/// name are converted, so only what lies in them counts. As paths in the branch. At the
/// top, the names that aufs keeps to itself have rules of their own: [`hidden_in`].
pub(super) fn hidden_below(branch: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut entries = walk(branch).min_depth(1).sort_by_file_name().into_iter();
    while let Some(entry) = entries.next() {
        // If it cannot be read, its digest is one that no branch has, and that is reported.
        let Ok(entry) = entry else {
            continue;
        };
        if !is_aufs_name(entry.file_name())
            || is_converted_directory(entry.file_name().as_bytes(), entry.path())
        {
            continue;
        }
        if entry.file_type().is_dir() {
            entries.skip_current_dir();
        }
        let is_at_top =
            entry.depth() == 1 && entry.file_name().as_bytes().starts_with(HIDDEN.as_bytes());
        if !is_at_top && hides_data(entry.path()) {
            let inner = entry.path().strip_prefix(branch).unwrap_or(entry.path());
            found.push(inner.to_string_lossy().into_owned());
        }
    }
    found
}

fn is_aufs_name(name: &OsStr) -> bool {
    name.as_bytes().starts_with(WHITEOUT)
}

/// Whether it contains, or is, something other than a directory, a whiteout or a marker.
fn hides_data(path: &Path) -> bool {
    let is_mark = |entry: &DirEntry| {
        let is_empty = entry.metadata().is_ok_and(|meta| meta.len() == 0);
        is_aufs_name(entry.file_name()) && entry.file_type().is_file() && is_empty
    };
    let mut entries = WalkDir::new(path).follow_root_links(false).into_iter();
    entries.any(|entry| {
        entry.map_or(true, |entry| {
            !entry.file_type().is_dir() && !is_mark(&entry)
        })
    })
}

fn is_data(entry: &DirEntry) -> bool {
    let kind = entry.file_type();
    let is_empty = || kind.is_file() && entry.metadata().is_ok_and(|meta| meta.len() == 0);
    !(kind.is_dir() || is_marker(entry.file_name()) && is_empty())
}

fn is_marker(name: &OsStr) -> bool {
    MARKERS.contains(&name.as_bytes())
}
