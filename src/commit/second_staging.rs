//! A second staging place, inside `containers/`, for a root that has this directory on a mount of its own: a file
//! cannot be renamed from one mount to another, so the containers' configs are staged, and their originals kept, on
//! their own mount.
//!
//! ```text
//! <root>/containers/.aufs2dm/
//!   conversion                   the number of the conversion, which its journal has too
//!   containers/<id>/<file>       replaces <root>/containers/<id>/<file>
//!   originals/containers/<id>/…  the original of the same
//! ```
//!
//! The journal in the root records this place from its creation until just before its removal. If a command does not
//! find it in that time, or finds the one of another conversion, part of the root is missing.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::statvfs::statvfs;
use uuid::Uuid;

use super::error::Error;
use super::journal::{Journal, JournalState};
use super::record::Record;
use super::remainder::all_removed;
use super::second_place::{CONTAINERS, MARK, SecondPlace, place};
use super::state::State;
use super::times::Times;
use crate::docker::Dir;
use crate::durable::{sync_directory, write_new};
use crate::removal::{Remainder, remove as remove_tree};
use crate::sys::Identity;
use crate::units::{BLOCK_BYTES, Bytes};

/// The length of an id in text form.
const MARK_BYTES: u64 = 36;

/// Whether `containers` is on another mount than the root.
///
/// # Errors
///
/// [`Error::Io`].
pub fn has_own_mount(root: &Path) -> Result<bool, Error> {
    is_own_mount(root, CONTAINERS)
}

/// Whether a directory of the root is on another mount.
pub(super) fn is_own_mount(root: &Path, name: &str) -> Result<bool, Error> {
    let directory = root.join(name);
    let open = |path: &Path| {
        OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
            .open(path)
    };
    let inner = match open(&directory) {
        Ok(inner) => inner,
        // It is missing or not a directory: whoever needs it reports that.
        Err(error)
            if [Errno::ENOENT, Errno::ENOTDIR, Errno::ELOOP]
                .iter()
                .any(|errno| error.raw_os_error() == Some(*errno as i32)) =>
        {
            return Ok(false);
        }
        Err(error) => return Err(Error::io(&directory, "open")(error)),
    };
    let above = File::open(root).map_err(Error::io(root, "open"))?;
    let mount = |path: &Path, open: &File| {
        Identity::of(open.as_fd())
            .map(|(identity, _)| (identity.mount, identity.device))
            .map_err(|errno| Error::io(path, "find its mount")(errno.into()))
    };
    Ok(mount(root, &above)? != mount(&directory, &inner)?)
}

/// Checks that the file system of `containers` has room for the configs, if they are staged there.
///
/// # Errors
///
/// [`Error::SpaceBeside`] if it has not.
pub fn check_space(root: &Path, sizes: impl Iterator<Item = usize>) -> Result<(), Error> {
    if !has_own_mount(root)? {
        return Ok(());
    }
    // For each config the file and its directory, plus the place itself.
    let blocks = |size: usize| (size as u64).next_multiple_of(BLOCK_BYTES) + 2 * BLOCK_BYTES;
    let needed = Bytes(sizes.map(blocks).sum::<u64>() + 4 * BLOCK_BYTES);
    let path = root.join(CONTAINERS);
    let stat = statvfs(&path)
        .map_err(|errno| Error::io(&path, "determine its free space")(errno.into()))?;
    let free = Bytes(stat.blocks_available() * stat.fragment_size());
    if free < needed {
        return Err(Error::SpaceBeside { path, needed, free });
    }
    Ok(())
}

/// Creates the place if the root needs one, and records it in the journal. Durable on return.
pub(super) fn create(root: &Path, journal: &Journal) -> Result<Option<SecondPlace>, Error> {
    let containers = root.join(CONTAINERS);
    let path = place(root);
    // Left by a run that was killed before it could record it.
    if path.symlink_metadata().is_ok() {
        all_removed(&path, remove_tree(&path))?;
    }
    if !has_own_mount(root)? {
        return Ok(None);
    }
    let beside = SecondPlace {
        id: Uuid::new_v4().to_string(),
        times: Times::of(root, CONTAINERS).map_err(Error::io(&containers, "stat"))?,
    };
    DirBuilder::new()
        .mode(0o700)
        .create(&path)
        .map_err(Error::io(&path, "create"))?;
    let mark = path.join(MARK);
    write_new(&mark, beside.id.as_bytes())?;
    sync_directory(&path)?;
    sync_directory(&containers)?;
    journal.append(&Record::Beside(beside.clone()))?;
    Ok(Some(beside))
}

/// Checks that the place recorded in the journal exists, and no other. `found` is the place that passed the checks of
/// its form.
pub(super) fn check(root: &Path, story: &JournalState, found: Option<&Dir>) -> Result<(), Error> {
    let moved = matches!(story.state, State::Switching | State::Converted);
    match (&story.beside, found) {
        (Some(_), None) => Err(Error::ContainersNotMounted {
            path: root.join(CONTAINERS),
        }),
        (Some(beside), Some(found)) if mark_in(found)?.as_ref() != Some(&beside.id) => {
            Err(Error::OtherContainers {
                path: root.join(CONTAINERS),
            })
        }
        (None, Some(found)) if moved => Err(Error::Foreign {
            path: found.path().to_owned(),
            why: "was not created by the conversion in the journal".to_owned(),
        }),
        // What was converted is hidden below the mount.
        (None, None) if moved && has_own_mount(root)? => Err(Error::ContainersHidden {
            path: root.join(CONTAINERS),
        }),
        _ => Ok(()),
    }
}

/// Whether the place contains more than a run leaves when it is killed while creating the place.
pub(super) fn is_begun(place: &Dir) -> Result<bool, Error> {
    Ok(place.list()?.iter().any(|entry| entry.name != MARK))
}

/// The id in the place, if there is one.
fn mark_in(place: &Dir) -> Result<Option<String>, Error> {
    if place.kind(OsStr::new(MARK))?.is_none() {
        return Ok(None);
    }
    let path = place.join(MARK);
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(MARK_BYTES).read_to_end(&mut bytes));
    read.map_err(Error::io(&path, "read"))?;
    Ok(String::from_utf8(bytes).ok())
}

/// Removes the place, if there is one. The journal first records that it is no longer needed. Returns what cannot be
/// removed.
pub(super) fn remove(root: &Path, stage: &Path) -> Result<Remainder, Error> {
    let path = place(root);
    if path.symlink_metadata().is_err() {
        return Ok(Remainder::default());
    }
    let beside = JournalState::read(stage)?.and_then(|story| story.beside);
    if beside.is_some() {
        Journal::reopen(stage)?.append(&Record::NothingBeside)?;
    }
    let kept = remove_tree(&path);
    if kept.is_empty() {
        sync_directory(&root.join(CONTAINERS))?;
        if let Some(beside) = beside {
            beside.times.put_back(root);
        }
    }
    Ok(kept)
}
