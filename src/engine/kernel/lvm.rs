//! LVM is held off while a pool of its gets another table.
//!
//! To extend a pool LVM suspends it, loads its table, and resumes it. Whoever gives it a table in between makes one of
//! LVM's steps fail, and the extension with it. LVM's commands lock their volume group, and so does this.
//! Source: lvm2 2.03 `lib/locking/file_locking.c`, `lib/misc/lvm-flock.c`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, OFlag};

use super::device_error::Error;
use crate::lock;

/// Where LVM's locks are unless it is told otherwise (`global/locking_dir`).
const LOCKS: &str = "/run/lock/lvm";

/// How long LVM's command that has the lock is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What LVM's device-mapper UUIDs begin with.
const UUID_PREFIX: &str = "LVM-";

/// Tries to lock a file that LVM removes when it unlocks it.
const TRIES: u32 = 100;

/// A volume group that LVM's commands wait for as long as this lives.
#[derive(Debug)]
pub(super) struct HeldOff {
    path: PathBuf,
    file: Flock<File>,
}

/// Locks the volume group of a device; `None` if the device is not LVM's, or LVM has no locks here.
///
/// # Errors
///
/// [`Error::Io`], also when a command of LVM keeps the lock.
pub(super) fn hold_off(name: &str, uuid: &str) -> Result<Option<HeldOff>, Error> {
    match group_of(name, uuid) {
        Some(group) => hold_off_in(Path::new(LOCKS), &group),
        None => Ok(None),
    }
}

fn hold_off_in(locks: &Path, group: &str) -> Result<Option<HeldOff>, Error> {
    if !locks.is_dir() {
        return Ok(None);
    }
    let path = locks.join(format!("V_{group}"));
    for _ in 0..TRIES {
        let locked = open(&path).and_then(|file| Ok(lock::exclusive_within(file, PATIENCE)?));
        let locked = locked.map_err(Error::io(&path, "lock"))?;
        // Whoever had it has removed the file, and the next one makes another.
        if is_at(&locked, &path) {
            return Ok(Some(HeldOff { path, file: locked }));
        }
    }
    let busy = io::ErrorKind::ResourceBusy.into();
    Err(Error::io(&path, "lock")(busy))
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

impl Drop for HeldOff {
    fn drop(&mut self) {
        // As LVM does it, before the lock goes.
        if is_at(&self.file, &self.path)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}

/// The volume group in a device-mapper name of LVM: what is before the first hyphen that stands alone, with those doubled
/// that are in the group's own name.
fn group_of(name: &str, uuid: &str) -> Option<String> {
    uuid.strip_prefix(UUID_PREFIX)?;
    let mut group = String::new();
    let mut rest = name;
    loop {
        let (part, behind) = rest.split_once('-')?;
        group.push_str(part);
        match behind.strip_prefix('-') {
            None => return (!group.is_empty()).then_some(group),
            Some(behind) => {
                group.push('-');
                rest = behind;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_read_from_a_name() {
        for (name, uuid, group) in [
            ("docker-thinpool", "LVM-x", Some("docker")),
            ("my--vg-thin--pool", "LVM-x", Some("my-vg")),
            ("a----b-c", "LVM-x", Some("a--b")),
            ("docker-thinpool", "", None),
            ("docker-thinpool", "CRYPT-x", None),
            ("thinpool", "LVM-x", None),
            ("thin--pool", "LVM-x", None),
            ("-pool", "LVM-x", None),
        ] {
            assert_eq!(group_of(name, uuid).as_deref(), group, "{name} {uuid}");
        }
    }

    #[test]
    fn others_are_held_off_until_it_goes_and_no_file_is_left() {
        let locks = tempfile::tempdir().unwrap();
        let path = locks.path().join("V_docker");
        let held = hold_off_in(locks.path(), "docker").unwrap().unwrap();
        let other = File::open(&path).unwrap();
        let other = Flock::lock(other, nix::fcntl::FlockArg::LockExclusiveNonblock);
        assert!(other.is_err());
        drop(held);
        assert!(!path.exists());
        let none = locks.path().join("none");
        assert!(hold_off_in(&none, "docker").unwrap().is_none());
    }

    #[test]
    fn a_lock_whose_file_lvm_removed_is_not_taken_for_the_one_that_counts() {
        let locks = tempfile::tempdir().unwrap();
        let path = locks.path().join("V_docker");
        let lvms = hold_off_in(locks.path(), "docker").unwrap().unwrap();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            drop(lvms);
        });
        let held = hold_off_in(locks.path(), "docker").unwrap().unwrap();
        assert!(is_at(&held.file, &path));
        thread.join().unwrap();
    }
}
