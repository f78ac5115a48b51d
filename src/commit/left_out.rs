//! What in the directory of the aufs driver is data, and what is left where there was some.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use walkdir::{DirEntry, WalkDir};

/// Files that aufs makes in each branch, without content. Its two directories there, `.wh..wh.plnk` and `.wh..wh.orph`, hold data if they
/// hold anything. A file of another name that begins so shows in no mount, which makes it no less somebody's.
const MARKERS: [&[u8]; 2] = [b".wh..wh.aufs", b".wh..wh..opq"];

/// Whether something is no directory, or one with something in it that is none, aufs's own markers apart. What cannot be looked at
/// counts as data.
pub(super) fn has_data(path: &Path) -> bool {
    let mut entries = WalkDir::new(path).into_iter();
    entries.any(|entry| entry.map_or(true, |entry| is_data(&entry)))
}

fn is_data(entry: &DirEntry) -> bool {
    let kind = entry.file_type();
    let is_empty = || kind.is_file() && entry.metadata().is_ok_and(|meta| meta.len() == 0);
    !(kind.is_dir() || is_marker(entry.file_name()) && is_empty())
}

fn is_marker(name: &OsStr) -> bool {
    MARKERS.contains(&name.as_bytes())
}
