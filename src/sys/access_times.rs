//! Reading without leaving traces.

use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// From now on nothing that this thread, or a thread it starts, reads below `path` changes an access time.
///
/// Files can be opened with `O_NOATIME`, but symlinks cannot be read that way. So the thread gets a mount namespace of its own,
/// in which `path` is mounted on itself with `noatime`; no other process sees it, and it is gone with the process.
///
/// # Errors
///
/// `EPERM` without the right to mount; access times may change then.
pub fn without_access_times(path: &Path) -> Result<(), Errno> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    mount(
        Some(path),
        path,
        NONE,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        NONE,
    )?;
    mount(
        NONE,
        path,
        NONE,
        MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOATIME,
        NONE,
    )
}
