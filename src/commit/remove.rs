//! Removal in a root, and the checks before it.

use std::io;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::remainder::{all_removed, look_at_flag};
use super::sums::PARTS;
use super::{second_place, second_staging};
use crate::engine::kernel::claim;
use crate::mount_table::{Table, Visibility};
use crate::removal::{Cause, Remainder, remove};
use crate::staging::{JOURNAL, OWN_MOUNTS, STAGE_NAME};

/// The process file system: what is really mounted counts.
const PROC: &str = "/proc";

/// Checks that nothing is mounted on or inside the staging directory, for any process, except what the tool itself
/// mounts there.
///
/// # Errors
///
/// [`Error::Mounted`]; nothing has been changed.
pub fn expect_unmounted_stage(root: &Path) -> Result<(), Error> {
    expect_unmounted(root, &|inner, _| is_in_stage(inner))
}

/// Checks the same for everything that a rollback moves and removes, and for the image store that it goes back to: what
/// is mounted there may be the store that is removed.
pub(super) fn expect_unmounted_result(root: &Path) -> Result<(), Error> {
    expect_unmounted(root, &|inner, _| {
        is_in_stage(inner)
            || inner.starts_with("devicemapper")
            || inner.starts_with("image/devicemapper")
            || inner.starts_with("image/aufs")
    })
}

/// Checks the same for everything that `commit` removes, and for the image store that stays: what is mounted there may
/// be the store that is removed. `aufs` itself may be a mount point here; only its contents are removed.
pub(super) fn expect_unmounted_aufs_side(root: &Path) -> Result<(), Error> {
    expect_unmounted(root, &|inner, seen| {
        inner.starts_with(STAGE_NAME)
            || is_beside(inner)
            || inner.starts_with("image/aufs")
            || inner.starts_with("image/devicemapper")
            || inner.starts_with("aufs")
                && (inner != Path::new("aufs") || seen == Visibility::Elsewhere)
    })
}

fn is_in_stage(inner: &Path) -> bool {
    if is_beside(inner) {
        return true;
    }
    let Ok(inner) = inner.strip_prefix(STAGE_NAME) else {
        return false;
    };
    !OWN_MOUNTS
        .iter()
        .any(|ours| inner.starts_with(ours) && inner != Path::new(ours))
}

/// Whether it is the place for configs in `containers`, or inside that place.
fn is_beside(inner: &Path) -> bool {
    inner.starts_with(second_place::place(Path::new("")))
}

fn expect_unmounted(root: &Path, wanted: &dyn Fn(&Path, Visibility) -> bool) -> Result<(), Error> {
    let table = Table::everywhere(Path::new(PROC));
    let mut mounts = Vec::new();
    // If these are links or mount points, their contents are somewhere else.
    for top in ["", "aufs", second_place::CONTAINERS] {
        let Ok(place) = root.join(top).canonicalize() else {
            continue;
        };
        for mount in table.inside(&place, &|inner, seen| {
            wanted(&Path::new(top).join(inner), seen)
        }) {
            if !mounts.contains(&mount) {
                mounts.push(mount);
            }
        }
    }
    if mounts.is_empty() {
        Ok(())
    } else {
        Err(Error::Mounted { mounts })
    }
}

/// Checks that the directories that `commit` moves or removes names from have no flag that forbids it.
pub(super) fn expect_changeable(root: &Path) -> Result<(), Error> {
    let mut kept = Remainder::default();
    for inner in ["", "image", STAGE_NAME] {
        look_at_flag(&root.join(inner), Cause::FlagAbove, &mut kept);
    }
    look_at_flag(&root.join("image/aufs"), Cause::FlagAbove, &mut kept);
    // The target of a link too.
    if let Ok(aufs) = root.join("aufs").canonicalize() {
        look_at_flag(&aufs, Cause::FlagAbove, &mut kept);
        for part in PARTS {
            look_at_flag(&aufs.join(part), Cause::FlagAbove, &mut kept);
        }
    }
    if kept.is_empty() {
        Ok(())
    } else {
        Err(Error::Unchangeable { kept })
    }
}

/// Removes a staging directory in which no conversion was begun, or anything else with its name.
///
/// # Errors
///
/// [`Error::Mounted`], [`Error::NotRemoved`].
pub fn remove_leftover(path: &Path) -> Result<(), Error> {
    expect_unmounted_stage(above(path))?;
    let kept = second_staging::remove(above(path), path)?;
    all_removed(&second_place::place(above(path)), kept)?;
    all_removed(path, remove(path))
}

/// Removes a staging directory. The journal goes last: as long as it exists, a later run knows what the rest is.
pub(super) fn remove_stage(path: &Path) -> Result<(), Error> {
    expect_unmounted_stage(above(path))?;
    // This goes first, so that a kill cannot leave a record of something that is in use by then.
    let mut kept = remove(&path.join(claim::FILE));
    for entry in entries(path)? {
        if entry != path.join(JOURNAL) && entry != path.join(claim::FILE) {
            kept.extend(remove(&entry));
        }
    }
    kept.extend(second_staging::remove(above(path), path)?);
    if kept.is_empty() {
        kept = remove(&path.join(JOURNAL));
    }
    if kept.is_empty() {
        kept = remove(path);
    }
    all_removed(path, kept)
}

fn above(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn entries(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let is_directory = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    if !is_directory {
        return Ok(Vec::new());
    }
    let listed = path.read_dir().and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()
    });
    listed.map_err(Error::io(path, "read"))
}

/// Removes one part of the staging directory, if it exists.
pub(super) fn remove_part(path: &Path) -> Result<(), Error> {
    all_removed(path, remove(path))
}
