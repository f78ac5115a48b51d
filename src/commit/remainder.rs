//! Turns the remainder of a removal into an error.

use std::fs::File;
use std::path::Path;

use super::error::Error;
use crate::removal::{Cause, Obstacle, Remainder};
use crate::sys::{Identity, frozen};

/// Fails if something was kept.
pub(super) fn all_removed(path: &Path, kept: Remainder) -> Result<(), Error> {
    if kept.is_empty() {
        return Ok(());
    }
    Err(Error::NotRemoved {
        path: path.to_owned(),
        kept,
    })
}

/// Records a file or directory that a flag protects from being moved, replaced, or having names removed from it.
pub(super) fn note_flag(path: &Path, kept: &mut Remainder) {
    if let Some(flag) = frozen(path) {
        kept.add(Obstacle {
            path: path.to_owned(),
            cause: Cause::FlagAbove(flag),
        });
    }
}

pub(super) fn look_at_flag(
    path: &Path,
    cause: fn(crate::sys::Immutability) -> Cause,
    kept: &mut Remainder,
) {
    let is_directory = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    let open = File::open(path).ok().filter(|_| is_directory);
    if let Some((_, Some(flag))) = open.and_then(|open| Identity::of(&open).ok()) {
        kept.add(Obstacle {
            path: path.to_owned(),
            cause: cause(flag),
        });
    }
}
