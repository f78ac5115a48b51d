//! Mounting and unmounting.

use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use sys_mount::{Mount, MountFlags};

/// Tries to unmount what is in use; something may be looking at it for a moment.
const ATTEMPTS: u32 = 25;
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// Mounts a device without access times, with the first of the option texts that the kernel takes.
///
/// # Errors
///
/// The kernel's, to the last of them. `options` must not be empty.
pub fn mount(device: &Path, at: &Path, kind: &str, options: &[&str]) -> io::Result<()> {
    mount_with(MountFlags::NOATIME, (device, at), kind, options)
}

/// The same, read-only, and with nothing in it that could be run or opened as a device.
///
/// # Errors
///
/// As [`mount`].
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
                    "{}: the kernel does not take the options {text:?}",
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
/// `EBUSY` when it is still in use; nothing has changed then.
pub fn unmount(at: &Path) -> io::Result<()> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        // Not through a symlink that something has put there. (sys-mount 3.1's NOFOLLOW is not the kernel's.)
        match umount2(at, MntFlags::UMOUNT_NOFOLLOW) {
            Err(Errno::EBUSY) if attempt < ATTEMPTS => {}
            outcome => return outcome.map_err(io::Error::from),
        }
        sleep(PAUSE);
    }
}

/// Takes the mount out of the tree now; it ends when its last user does.
///
/// # Errors
///
/// The kernel's.
pub fn detach(at: &Path) -> io::Result<()> {
    umount2(at, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).map_err(io::Error::from)
}
