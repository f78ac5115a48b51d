//! Keeps Docker out of the root during the work.

use std::path::Path;

use super::error::Error;
use crate::daemon::{Host, Notice, PidFiles, check_stopped};
use crate::docker::Root;

/// Locks Docker's pid files first and looks for signs of life afterwards, so a daemon that starts in between is
/// noticed.
pub(super) fn keep_docker_out(
    root: &Root,
    host: &Host,
    dry_run: bool,
    notices: &mut Vec<String>,
) -> Result<Option<PidFiles>, Error> {
    if dry_run {
        if let Err(running) = check_stopped(root.data_dir(), host) {
            notices.push(format!(
                "{running}; the plan may be out of date by the time Docker is stopped"
            ));
        }
        return Ok(None);
    }
    let pid_files = PidFiles::acquire(host, notices)?;
    for notice in check_stopped(root.data_dir(), host)? {
        let Notice::MountPoint { path } = &notice;
        if takes_part_in_renames(root.path(), path) {
            return Err(Error::MountPoint { path: path.clone() });
        }
        log::debug!("{notice}; it stays where it is");
    }
    Ok(Some(pid_files))
}

/// Whether the result is moved to `path` or below it. A rename cannot cross mounts, even of the same file system.
/// `aufs` stays where it is, whatever is mounted on it.
fn takes_part_in_renames(root: &Path, path: &Path) -> bool {
    path.strip_prefix(root).is_ok_and(|inner| {
        ["image", "containers", "devicemapper"]
            .iter()
            .any(|top| inner.starts_with(top))
    })
}
