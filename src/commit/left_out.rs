//! What in the directory of the aufs driver is data, and what is left where there was some.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use walkdir::{DirEntry, WalkDir};

use super::regular_files::names_in;
use super::walk::walk;

/// Files that aufs makes in each branch, without content. Its two directories there, `.wh..wh.plnk` and `.wh..wh.orph`, hold data if they
/// hold anything. A file of another name that begins so shows in no mount, which makes it no less somebody's.
const MARKERS: [&[u8]; 2] = [b".wh..wh.aufs", b".wh..wh..opq"];

/// With what the names begin that aufs keeps to itself.
const HIDDEN: &str = ".wh..wh.";

/// With what the names begin that say what a branch hides.
const WHITEOUT: &[u8] = b".wh.";

/// The directory of second names that aufs gives to files with several.
const PSEUDO_LINKS: &str = ".wh..wh.plnk";

/// Whether something is no directory, or one with something in it that is none, aufs's own markers apart. What cannot be looked at
/// counts as data.
pub(super) fn has_data(path: &Path) -> bool {
    let mut entries = WalkDir::new(path).follow_root_links(false).into_iter();
    entries.any(|entry| entry.map_or(true, |entry| is_data(&entry)))
}

/// What aufs keeps at the top of a converted branch and shows nowhere, and is data all the same: what was unlinked while it was open, and
/// whatever else has a name that aufs hides. By names in the branch. Of pseudo-links only what cannot be looked at.
pub(super) fn hidden_in(branch: &Path) -> (Vec<String>, Vec<PseudoLink>) {
    let names = names_in(branch).unwrap_or_default();
    let hidden = names.into_iter().filter(|name| name.starts_with(HIDDEN));
    let (mut found, mut links) = (Vec::new(), Vec::new());
    for name in hidden {
        let path = branch.join(&name);
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

/// Data in a directory of pseudo-links.
#[derive(Debug)]
pub(super) struct PseudoLink {
    /// Its path in the branch.
    pub(super) path: String,
    /// File system and inode.
    file: (u64, u64),
    /// How many names it has, wherever they are.
    names: u64,
}

/// Those of all branches' pseudo-links whose data has no other name: the others show it somewhere.
pub(super) fn alone<T>(links: &[(T, PseudoLink)]) -> impl Iterator<Item = (&T, &PseudoLink)> {
    let mut seen: HashMap<(u64, u64), u64> = HashMap::new();
    for (_, link) in links {
        *seen.entry(link.file).or_default() += 1;
    }
    let all = links.iter().map(|(of, link)| (of, link));
    all.filter(move |(_, link)| seen.get(&link.file).is_some_and(|seen| *seen >= link.names))
}

/// What lies anywhere in a branch by a name that aufs takes for one of its own, and has bytes or is no file: aufs makes whiteouts and markers
/// without any, and shows what else has such a name nowhere. By paths in the branch. At its top the names that aufs keeps to itself have
/// rules of their own: [`hidden_in`].
pub(super) fn hidden_below(branch: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut entries = walk(branch).min_depth(1).sort_by_file_name().into_iter();
    while let Some(entry) = entries.next() {
        // What cannot be read has no digest that a branch has, which is told.
        let Ok(entry) = entry else {
            continue;
        };
        if !is_aufs_name(entry.file_name()) {
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

/// Whether something in it, or itself, is no directory and no whiteout or marker.
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
