//! Reading without changing access times.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};

/// From now on, nothing that this thread, or a thread it starts, reads below `paths` changes an access time.
///
/// Files can be opened with `O_NOATIME`, but symlinks cannot be read that way. So the thread gets its own mount
/// namespace, in which each path is mounted on itself with `noatime`. No other process sees this namespace, and it ends
/// with the process. Mounts that others remove meanwhile are removed in it too.
///
/// # Errors
///
/// `EPERM` without permission to mount; access times may then change.
pub fn without_access_times(paths: &[PathBuf]) -> Result<(), Errno> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)?;
    for path in paths {
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(path), path, NONE, bind, NONE)?;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOATIME;
        mount(NONE, path, NONE, flags | kept_flags(path)?, NONE)?;
    }
    Ok(())
}

/// The current mount flags of a path. A remount drops every flag that it does not name: a root that was mounted
/// read-only must stay so.
fn kept_flags(path: &Path) -> Result<MsFlags, Errno> {
    let has = statvfs(path)?.flags();
    let pairs = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ];
    let kept = pairs.into_iter().filter(|(flag, _)| has.contains(*flag));
    Ok(kept.map(|(_, flag)| flag).collect())
}
