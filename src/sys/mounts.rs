//! Mounting and unmounting.

use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use sys_mount::{Mount, MountFlags};

/// The number of attempts to unmount what is in use; another process may be looking at it briefly.
const ATTEMPTS: u32 = 25;
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Mounts a device without access times, with the first of the option texts that the kernel accepts.
///
/// # Errors
///
/// The kernel's error for the last of them. `options` must not be empty.
pub fn mount(device: &Path, at: &Path, kind: &str, options: &[&str]) -> io::Result<()> {
    mount_with(MountFlags::NOATIME, (device, at), kind, options)
}

/// Like [`mount`], but read-only, and so that nothing in it can be run or opened as a device.
///
/// # Errors
///
/// Same as [`mount`].
pub fn mount_read_only(device: &Path, at: &Path, kind: &str, options: &[&str]) -> io::Result<()> {
    let flags = MountFlags::NOATIME
        | MountFlags::RDONLY
        | MountFlags::NODEV
        | MountFlags::NOEXEC
        | MountFlags::NOSUID;
    mount_with(flags, (device, at), kind, options)
}

fn mount_with(
    flags: MountFlags,
    (device, at): (&Path, &Path),
    kind: &str,
    options: &[&str],
) -> io::Result<()> {
    let mut refused = io::Error::from(io::ErrorKind::InvalidInput);
    for text in options {
        let mounted = Mount::builder()
            .fstype(kind)
            .flags(flags)
            .data(text)
            .mount(device, at);
        match mounted {
            Ok(_) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {
                log::debug!(
                    "{}: the kernel does not accept the mount options {text:?}",
                    device.display()
                );
                refused = error;
            }
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

/// Unmounts, and waits some seconds for those who use the file system.
///
/// # Errors
///
/// `EBUSY` if it is still in use; in that case nothing has changed.
pub fn unmount(at: &Path) -> io::Result<()> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        // Does not follow a symlink that something put there. (sys-mount 3.1's NOFOLLOW is not the kernel's.)
        match umount2(at, MntFlags::UMOUNT_NOFOLLOW) {
            Err(Errno::EBUSY) if attempt < ATTEMPTS => {}
            outcome => return outcome.map_err(io::Error::from),
        }
        sleep(PAUSE);
    }
}

/// Removes the mount from the tree now; it ends when its last user does.
///
/// # Errors
///
/// The kernel's error.
pub fn detach(at: &Path) -> io::Result<()> {
    umount2(at, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).map_err(io::Error::from)
}
