//! Reading without leaving traces.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};

/// From now on nothing that this thread, or a thread it starts, reads below `paths` changes an access time.
///
/// Files can be opened with `O_NOATIME`, but symlinks cannot be read that way. So the thread gets a mount namespace of its own,
/// in which each path is mounted on itself with `noatime`; no other process sees it, and it is gone with the process. Mounts
/// that others undo meanwhile are undone in it too.
///
/// # Errors
///
/// `EPERM` without the right to mount; access times may change then.
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

/// A remount drops what it does not name: a root that was mounted read-only must stay so.
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
