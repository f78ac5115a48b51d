//! What in the directory of the aufs driver is data, and what is left where there was some.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use walkdir::{DirEntry, WalkDir};

use super::since::names_in;

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
    let mut entries = WalkDir::new(path).into_iter();
    entries.any(|entry| entry.map_or(true, |entry| is_data(&entry)))
}

/// What aufs keeps at the top of a converted branch and shows nowhere, and is data all the same: what was unlinked while it was open, data
/// whose only name is a pseudo-link, and whatever else has a name that aufs hides. By names in the branch.
pub(super) fn hidden_in(branch: &Path) -> Vec<String> {
    let names = names_in(branch).unwrap_or_default();
    let hidden = names.into_iter().filter(|name| name.starts_with(HIDDEN));
    let mut found = Vec::new();
    for name in hidden {
        let path = branch.join(&name);
        if name != PSEUDO_LINKS {
            if has_data(&path) {
                found.push(name);
            }
            continue;
        }
        // The others have their data by another name as well.
        let Ok(links) = names_in(&path) else {
            found.push(name);
            continue;
        };
        let alone = links.into_iter().filter(|link| {
            let meta = path.join(link).symlink_metadata();
            meta.is_ok_and(|meta| meta.is_file() && meta.nlink() == 1 && meta.len() > 0)
        });
        found.extend(alone.map(|link| format!("{PSEUDO_LINKS}/{link}")));
    }
    found
}

/// What lies anywhere in a branch by a name that aufs takes for one of its own, and has bytes or is no file: aufs makes whiteouts and markers
/// without any, and shows what else has such a name nowhere. By paths in the branch. At its top the names that aufs keeps to itself have
/// rules of their own: [`hidden_in`].
pub(super) fn hidden_below(branch: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut entries = WalkDir::new(branch)
        .min_depth(1)
        .same_file_system(true)
        .sort_by_file_name()
        .into_iter();
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
    WalkDir::new(path).into_iter().any(|entry| {
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
