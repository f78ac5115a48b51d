//! Removes an aufs side that waits for it, piece by piece: each is renamed before anything of it goes. So what waits is whole, and can be told
//! from what came there since, however often the removal is interrupted.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::error::Error;
use super::pieces::{SIDES, pieces_in, place};
use super::removal::{GOING, WaitingPlace};
use super::sums::PARTS;
use crate::removal::{Cause, Obstacle, Remainder, remove_unless};
use crate::sys::frozen;

/// Removes both sides. The image store goes last: as long as the branches go, it is what the copy beside the devices is compared with. What
/// cannot be removed is returned.
pub(super) fn remove_waiting(
    waiting: &WaitingPlace,
    stop: &dyn Fn() -> bool,
) -> Result<Remainder, Error> {
    let mut kept = Remainder::default();
    for (side, at) in waiting.sides() {
        let above = at.parent().unwrap_or(&at).to_owned();
        let going = above.join(GOING).join(side);
        kept.extend(remove_pieces(side, (&at, &going), stop)?);
        if !kept.is_empty() {
            return Ok(kept);
        }
    }
    for (_, at) in waiting.sides() {
        for part in PARTS {
            remove_empty(&at.join(part), &mut kept);
        }
        remove_empty(&at, &mut kept);
    }
    kept.extend(remove_room(waiting));
    // As long as the one is there, the other must be: else it is behind a mount that is gone.
    if kept.is_empty() {
        remove_empty(&waiting.image_in, &mut kept);
    }
    if kept.is_empty() {
        remove_empty(&waiting.aufs_in, &mut kept);
    }
    Ok(kept)
}

/// Removes the pieces of a side, and first what is left of the one that an interrupted run had begun with.
fn remove_pieces(
    side: &str,
    (at, going): (&Path, &Path),
    stop: &dyn Fn() -> bool,
) -> Result<Remainder, Error> {
    let mut kept = Remainder::default();
    for inner in pieces_in(side, going)? {
        kept.extend(remove_all(&place(going, &inner), stop)?);
    }
    for inner in pieces_in(side, at)? {
        if stop() {
            return Err(Error::Interrupted);
        }
        let (from, to) = (place(at, &inner), place(going, &inner));
        match set_aside(&from, &to) {
            Ok(()) => kept.extend(remove_all(&to, stop)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => kept.add(stuck(&from, "move", &error)),
        }
    }
    Ok(kept)
}

fn remove_all(path: &Path, stop: &dyn Fn() -> bool) -> Result<Remainder, Error> {
    remove_unless(path, stop).ok_or(Error::Interrupted)
}

/// Makes the directories that pieces are renamed to. A disk may be too full for them, so they are made before anything goes.
pub(super) fn make_room(waiting: &WaitingPlace) -> Result<(), Error> {
    rooms(waiting).try_for_each(|path| create_dirs(&path).map_err(Error::io(&path, "create")))
}

/// Removes them, as long as nothing is in them.
pub(super) fn remove_room(waiting: &WaitingPlace) -> Remainder {
    let mut kept = Remainder::default();
    let rooms: Vec<_> = rooms(waiting).collect();
    for path in rooms.iter().rev() {
        remove_empty(path, &mut kept);
    }
    kept
}

/// From the outermost on. The image store takes the whole of its place.
fn rooms(waiting: &WaitingPlace) -> impl Iterator<Item = PathBuf> {
    let aufs = waiting.aufs_in.join(GOING).join(SIDES[0]);
    let parts = PARTS.map(|part| aufs.join(part));
    let above = [waiting.image_in.join(GOING), waiting.aufs_in.join(GOING)];
    above.into_iter().chain([aufs]).chain(parts)
}

fn create_dirs(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Renames a piece; the directories above its new place are made.
fn set_aside(from: &Path, to: &Path) -> io::Result<()> {
    create_dirs(to.parent().unwrap_or(to))?;
    fs::rename(from, to)
}

/// Why a piece cannot be renamed, or a directory not removed.
fn stuck(path: &Path, op: &'static str, error: &io::Error) -> Obstacle {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
    let above = path.parent().unwrap_or(path);
    // What is below them keeps its flags, and its times: they tell whether it was written to.
    let flagged = [path, above]
        .into_iter()
        .find_map(|path| Some((path, Cause::FlagAbove(frozen(path)?))));
    let (path, cause) = match errno {
        Errno::EPERM => flagged,
        Errno::EBUSY => Some((path, Cause::MountPoint)),
        _ => None,
    }
    .unwrap_or((path, Cause::Errno(op, errno)));
    Obstacle {
        path: path.to_owned(),
        cause,
    }
}

/// Removes a directory that has nothing in it: what has come there meanwhile is nothing that was looked at.
fn remove_empty(path: &Path, kept: &mut Remainder) {
    match fs::remove_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => kept.add(stuck(path, "remove", &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_goes_that_waits_wherever_an_earlier_run_was_interrupted() {
        for left in [
            "",
            "disk/going/aufs/diff/b",
            "removed/going/image/layerdb",
            "disk/going",
        ] {
            let dir = tempfile::tempdir().unwrap();
            let waiting = WaitingPlace {
                aufs_in: dir.path().join("disk"),
                image_in: dir.path().join("removed"),
            };
            for path in [
                "disk/aufs/diff/a/file",
                "disk/aufs/layers/a",
                "disk/aufs/mnt/a",
                "removed/image/layerdb/sha256",
            ] {
                fs::create_dir_all(dir.path().join(path)).unwrap();
            }
            fs::create_dir_all(dir.path().join(left)).unwrap();
            let kept = remove_waiting(&waiting, &|| false).unwrap();
            assert!(kept.is_empty(), "{left}: {kept}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{left}");
            assert!(remove_waiting(&waiting, &|| false).unwrap().is_empty());
        }
    }

    #[test]
    fn a_stop_leaves_what_waits_whole() {
        let dir = tempfile::tempdir().unwrap();
        let waiting = WaitingPlace {
            aufs_in: dir.path().to_owned(),
            image_in: dir.path().to_owned(),
        };
        fs::create_dir_all(dir.path().join("aufs/diff/a/file")).unwrap();
        let stopped = remove_waiting(&waiting, &|| true);
        assert!(matches!(stopped, Err(Error::Interrupted)));
        assert!(dir.path().join("aufs/diff/a/file").exists());
    }
}
