//! Removes a waiting aufs side piece by piece: each piece is renamed before anything in it is removed. So what is
//! waiting is whole, and can be told from later additions, however often the removal is interrupted.

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

/// Removes both sides. The image store goes last: while branches are being removed, the copy beside the devices is
/// still compared with it. Returns what cannot be removed.
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
    // While the one exists, the other must exist too: otherwise it is behind a mount that is gone.
    if kept.is_empty() {
        remove_empty(&waiting.image_in, &mut kept);
    }
    if kept.is_empty() {
        remove_empty(&waiting.aufs_in, &mut kept);
    }
    Ok(kept)
}

/// Removes the pieces of a side, beginning with the rest of the one that an interrupted run had started on.
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

/// Creates the directories to which pieces are renamed. A disk may be too full for them, so this is done before
/// anything is removed.
pub(super) fn make_room(waiting: &WaitingPlace) -> Result<(), Error> {
    rooms(waiting).try_for_each(|path| create_dirs(&path).map_err(Error::io(&path, "create")))
}

/// Removes these directories if they are empty.
pub(super) fn remove_room(waiting: &WaitingPlace) -> Remainder {
    let mut kept = Remainder::default();
    let rooms: Vec<_> = rooms(waiting).collect();
    for path in rooms.iter().rev() {
        remove_empty(path, &mut kept);
    }
    kept
}

/// The directories, outermost first. The image store occupies its place as a whole.
fn rooms(waiting: &WaitingPlace) -> impl Iterator<Item = PathBuf> {
    let aufs = waiting.aufs_in.join(GOING).join(SIDES[0]);
    let parts = PARTS.map(|part| aufs.join(part));
    let above = [waiting.image_in.join(GOING), waiting.aufs_in.join(GOING)];
    above.into_iter().chain([aufs]).chain(parts)
}

fn create_dirs(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Renames a piece, and creates the directories above its new place.
fn set_aside(from: &Path, to: &Path) -> io::Result<()> {
    create_dirs(to.parent().unwrap_or(to))?;
    fs::rename(from, to)
}

/// Why a piece cannot be renamed, or a directory cannot be removed.
fn stuck(path: &Path, op: &'static str, error: &io::Error) -> Obstacle {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
    let above = path.parent().unwrap_or(path);
    // Anything below them keeps its flags and times: these show whether it was written to.
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

/// Removes a directory if it is empty: whatever was added to it meanwhile has not been checked.
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
