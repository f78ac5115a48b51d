//! Checks whether `daemon.json` can be replaced, without writing anything.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::daemon::first_start::{ORIGINAL, Switch, beside, is_same_file};
use crate::mount_table::mount_points;
use crate::sys::{Immutability, frozen};
use crate::tree::shown;

/// What would make [`apply`](crate::daemon::first_start::apply) fail, each with its path.
pub fn hindrances(switch: &Switch) -> Vec<String> {
    let Switch::Edit(edit) = switch else {
        return Vec::new();
    };
    let path = &edit.path;
    let mut found = Vec::new();
    let directory = existing(path.parent().unwrap_or(Path::new("/")));
    if !directory.is_dir() {
        found.push(format!("{}: is not a directory", shown(&directory)));
    } else if let Err(errno) = access(&directory, AccessFlags::W_OK)
        && frozen(&directory).is_none()
    {
        found.push(match errno {
            Errno::EROFS => format!(
                "{}: is on a read-only file system, so daemon.json cannot be changed there",
                shown(&directory)
            ),
            errno => format!(
                "{}: cannot be written to: {}",
                shown(&directory),
                errno.desc()
            ),
        });
    }
    for place in [&directory, path] {
        found.extend(frozen(place).map(|how| is_frozen(place, how)));
    }
    let original = beside(path, ORIGINAL);
    if edit.old.is_some() && original.symlink_metadata().is_ok() && !is_same_file(path, &original) {
        found.push(format!(
            "{}: already exists, from an earlier conversion, and would be lost: move it away",
            shown(&original)
        ));
    }
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    if mount_points(&mounts).contains(path) {
        found.push(format!(
            "{}: is a mount point, so no new file can take its place",
            shown(path)
        ));
    }
    found
}

fn is_frozen(path: &Path, how: Immutability) -> String {
    let (what, letter) = match how {
        Immutability::Immutable => ("immutable", 'i'),
        Immutability::AppendOnly => ("append-only", 'a'),
    };
    format!(
        "{}: is {what}, but must be changed: `chattr -{letter} {}`",
        shown(path),
        crate::shell::word(path)
    )
}

/// The directory, or its nearest existing ancestor.
fn existing(directory: &Path) -> PathBuf {
    let there = directory
        .ancestors()
        .find(|path| path.symlink_metadata().is_ok());
    there.unwrap_or(Path::new("/")).to_owned()
}
