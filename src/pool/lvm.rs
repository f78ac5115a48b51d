//! Keeps LVM from changing one of its pools while this program replaces the pool's table.
//!
//! To extend a pool, LVM loads its table, suspends it, and resumes it. Anyone who loads another table in between makes
//! one of LVM's steps fail, and with it the extension. LVM's commands lock their volume group, and so does this module.
//! Source: lvm2 2.03 `lib/locking/file_locking.c`, `lib/misc/lvm-flock.c`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, OFlag};

use crate::lock;

/// The default directory of LVM's locks (`global/locking_dir`).
const LOCKS: &str = "/run/lock/lvm";

/// How long to wait for the LVM command that holds the lock.
const PATIENCE: Duration = Duration::from_secs(10);

/// The prefix of LVM's device-mapper UUIDs.
const UUID_PREFIX: &str = "LVM-";

/// A locked volume group. LVM's commands wait for it as long as this value exists.
#[derive(Debug)]
pub(super) struct LvmLock {
    path: PathBuf,
    file: Flock<File>,
}

/// Locks the volume group of a device; `None` if the device is not LVM's, or the lock is not available in time. An LVM
/// command that holds the lock that long is not changing the pool's table: LVM also holds it while it asks its user a
/// question.
pub(super) fn hold_off(name: &str, uuid: &str) -> Option<LvmLock> {
    let (group, _) = parts(name, uuid)?;
    hold_off_in(Path::new(LOCKS), &group, PATIENCE)
}

fn hold_off_in(locks: &Path, group: &str, patience: Duration) -> Option<LvmLock> {
    let path = locks.join(format!("V_{group}"));
    let began = Instant::now();
    loop {
        let left = patience.saturating_sub(began.elapsed());
        let locked = open(&path).and_then(|file| Ok(lock::exclusive_within(file, left)?));
        match locked {
            // The previous holder may have removed the file, so that the next one creates another.
            Ok(file) if is_at(&file, &path) => return Some(LvmLock { path, file }),
            Ok(_) if !left.is_zero() => {}
            Ok(_) => return None,
            Err(error) => {
                log::info!(
                    "{}: {error}; LVM commands are not locked out",
                    path.display()
                );
                return None;
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(there)) = (file.metadata(), fs::symlink_metadata(path)) else {
        return false;
    };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

impl Drop for LvmLock {
    fn drop(&mut self) {
        // Done before the lock is released, as LVM does it.
        if is_at(&self.file, &self.path)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}

/// The name of an LVM device in LVM's commands, `group/volume`.
pub(super) fn volume(name: &str, uuid: &str) -> Option<String> {
    let (group, volume) = parts(name, uuid)?;
    Some(format!("{group}/{volume}"))
}

/// The volume group and the volume in a device-mapper name of LVM: a hyphen joins them, and hyphens within them are
/// doubled.
fn parts(name: &str, uuid: &str) -> Option<(String, String)> {
    uuid.strip_prefix(UUID_PREFIX)?;
    split(name)
}

/// The group and the volume that a path leads to, named as in LVM's commands. Uses only the path, because an inactive
/// device has no UUID. `None` for a path that is not LVM's. LVM's are `/dev/mapper/group-volume` and
/// `/dev/group/volume`.
pub fn volume_at(path: &Path) -> Option<(String, String)> {
    let name = path.strip_prefix("/dev").ok()?;
    let mut parts = name.iter().map(|part| part.to_str());
    let (group, volume) = (parts.next()??, parts.next()??);
    if parts.next().is_some() {
        return None;
    }
    match group {
        "mapper" => split(volume),
        // Directories of udev and the kernel, which are not volume groups.
        "block" | "bus" | "cciss" | "char" | "disk" | "drbd" | "input" | "loop" | "md" | "pts"
        | "shm" | "zvol" => None,
        group => Some((group.to_owned(), volume.to_owned())),
    }
}

fn split(name: &str) -> Option<(String, String)> {
    let mut group = String::new();
    let mut rest = name;
    loop {
        let (part, behind) = rest.split_once('-')?;
        group.push_str(part);
        if let Some(behind) = behind.strip_prefix('-') {
            group.push('-');
            rest = behind;
        } else if group.is_empty() || behind.is_empty() {
            return None;
        } else {
            return Some((group, behind.replace("--", "-")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_and_volume_are_read_from_a_name() {
        for (name, uuid, expected) in [
            ("docker-thinpool", "LVM-x", Some("docker/thinpool")),
            ("my--vg-thin--pool", "LVM-x", Some("my-vg/thin-pool")),
            ("a----b-c", "LVM-x", Some("a--b/c")),
            ("docker-thinpool", "", None),
            ("docker-thinpool", "CRYPT-x", None),
            ("thinpool", "LVM-x", None),
            ("thin--pool", "LVM-x", None),
            ("-pool", "LVM-x", None),
            ("docker-", "LVM-x", None),
        ] {
            assert_eq!(volume(name, uuid).as_deref(), expected, "{name} {uuid}");
        }
    }

    #[test]
    fn group_and_volume_are_read_from_a_path() {
        for (path, expected) in [
            ("/dev/mapper/docker-thinpool", Some(("docker", "thinpool"))),
            (
                "/dev/mapper/my--vg-thin--pool",
                Some(("my-vg", "thin-pool")),
            ),
            ("/dev/my-vg/thin-pool", Some(("my-vg", "thin-pool"))),
            ("/dev/mapper/thinpool", None),
            ("/dev/sdb1", None),
            ("/dev/disk/by-id/x", None),
            ("/dev/block/8:1", None),
            ("/dev/cciss/c0d0", None),
            ("/srv/docker-pool", None),
        ] {
            let found = volume_at(Path::new(path));
            let found = found.as_ref().map(|(group, volume)| (&**group, &**volume));
            assert_eq!(found, expected, "{path}");
        }
    }

    fn hold(locks: &Path) -> Option<LvmLock> {
        hold_off_in(locks, "docker", Duration::from_secs(5))
    }

    #[test]
    fn others_are_held_off_until_it_goes_and_no_file_is_left() {
        let locks = tempfile::tempdir().unwrap();
        let path = locks.path().join("V_docker");
        let held = hold(locks.path()).unwrap();
        let other = File::open(&path).unwrap();
        let other = Flock::lock(other, nix::fcntl::FlockArg::LockExclusiveNonblock);
        assert!(other.is_err());
        drop(held);
        assert!(!path.exists());
    }

    #[test]
    fn a_lock_that_is_kept_or_cannot_be_made_is_done_without() {
        let locks = tempfile::tempdir().unwrap();
        let _lvms = hold(locks.path()).unwrap();
        assert!(hold_off_in(locks.path(), "docker", Duration::from_millis(50)).is_none());
        assert!(hold(&locks.path().join("none")).is_none());
    }

    #[test]
    fn a_lock_whose_file_lvm_removed_is_not_taken_for_the_one_that_counts() {
        let locks = tempfile::tempdir().unwrap();
        let path = locks.path().join("V_docker");
        let lvms = hold(locks.path()).unwrap();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            drop(lvms);
        });
        let held = hold(locks.path()).unwrap();
        assert!(is_at(&held.file, &path));
        thread.join().unwrap();
    }
}
