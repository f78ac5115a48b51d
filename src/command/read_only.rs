//! Roots on a file system that is mounted read-only.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};

use super::error::Error;
use crate::mount_table::mount_points;

/// Checks that the root is writable.
///
/// # Errors
///
/// [`Error::ReadOnly`].
pub(super) fn expect_writable(root: &Path) -> Result<(), Error> {
    // `containers` may be on a mount of its own.
    for path in [root.to_owned(), root.join("containers")] {
        if let Some(point) = read_only(&path) {
            return Err(Error::ReadOnly { path, point });
        }
    }
    Ok(())
}

/// The mount point of the root's file system, if it is read-only.
pub(super) fn read_only(root: &Path) -> Option<PathBuf> {
    let flags = statvfs(root).ok()?.flags();
    if !flags.contains(FsFlags::ST_RDONLY) {
        return None;
    }
    // This process may have bind-mounted the root on itself to preserve access times; its parent process has not.
    let above = std::os::unix::process::parent_id();
    let mounts = fs::read(format!("/proc/{above}/mountinfo")).unwrap_or_default();
    let path = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let points = mount_points(&mounts).into_iter();
    let on = points.filter(|point| path.starts_with(point));
    Some(
        on.max_by_key(|point| point.as_os_str().len())
            .unwrap_or(path),
    )
}
