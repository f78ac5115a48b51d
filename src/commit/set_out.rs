//! The aufs side on its way out of the root: the checks, the move, and the way back as long as nothing of it is gone.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::aufs_side::Depth;
use super::clock::precisely_now;
use super::commit_record::CommitRecord;
use super::conversion::Conversion;
use super::error::Error;
use super::journal::{Journal, JournalState, removal_has_begun};
use super::pieces::{Pieces, written_after};
use super::piecewise::{make_room, remove_room, remove_waiting};
use super::record::Record;
use super::remainder::all_removed;
use super::removal::{Removal, StoreOfAufs, WaitingPlace};
use super::remove::{expect_changeable, expect_unmounted_aufs_side, remove_stage};
use super::state::State;
use super::store_files::IMAGE_NAMES;
use super::sums::PARTS;
use super::switch::{ExpectAlone, not_alone};
use super::{second_staging, size};
use crate::durable::sync_directory;
use crate::path_kind::is_there;
use crate::units::Bytes;
use crate::{docker, tree};

/// The directories of the aufs side in the root.
const AUFS_SIDE: [&str; 2] = ["aufs", "image/aufs"];

/// The aufs side before the last check.
#[derive(Debug)]
pub struct PiecesBefore(Pieces);

impl Conversion {
    /// Bytes that removing the aufs side will free.
    pub fn bytes_of_aufs(&self) -> Bytes {
        let removal = &self.story.removal;
        let waiting = removal.waiting(&self.root, &self.stage);
        let mut places = vec![waiting.image_in];
        if removal.beside.is_some() {
            places.push(waiting.aufs_in);
        }
        places.push(self.root.join(AUFS_SIDE[1]));
        let aufs = self.root.join(AUFS_SIDE[0]);
        if self.aufs_stays() {
            places.extend(PARTS.iter().map(|part| aufs.join(part)));
        } else {
            places.push(aufs);
        }
        size::of(places.iter().map(PathBuf::as_path))
    }

    /// Whether `aufs` stays when the aufs side is removed, together with anything in it that is not the driver's,
    /// because it is a link or a mount point.
    pub fn aufs_stays(&self) -> bool {
        let is_link = self
            .root
            .join("aufs")
            .symlink_metadata()
            .is_ok_and(|meta| meta.is_symlink());
        is_link || second_staging::is_own_mount(&self.root, "aufs").unwrap_or(false)
    }

    /// Checks that what waits inside an `aufs` that stays is accessible for removal: behind a missing mount, nothing of
    /// it would be visible.
    ///
    /// # Errors
    ///
    /// [`Error::AufsNotMounted`]; nothing has been changed.
    pub fn expect_aufs_reached(&self) -> Result<(), Error> {
        expect_reached(&self.root, &self.waiting())
    }

    /// The directory in which the rest of the branches waits.
    pub fn rest_of_aufs(&self) -> PathBuf {
        self.waiting().aufs_in
    }

    /// The directory in `aufs` in which the driver's part waits, if it is not visible although something waits: `aufs`
    /// is gone, with the mount or the link.
    pub fn out_of_sight(&self) -> Option<PathBuf> {
        let name = self.story.removal.beside.as_ref()?;
        let waiting = self.waiting();
        let is_lost = is_there(&waiting.image_in) && !is_there(&waiting.aufs_in);
        is_lost.then(|| self.root.join("aufs").join(name))
    }

    /// Checks that there is no aufs side again in the place of the one that is being removed.
    ///
    /// # Errors
    ///
    /// [`Error::AufsAgain`], [`Error::SetOutTwice`]; nothing has been changed.
    pub fn expect_not_again(&self) -> Result<(), Error> {
        let switching = self.story.switching.as_ref();
        if let Some(aufs) = switching.and_then(|one| one.aufs.as_ref()) {
            let mut changes = aufs.changes(&self.root, Depth::Names)?;
            if self.story.removal.beside.is_some() {
                changes = changes.of_the_driver();
            }
            if !changes.new.is_empty() {
                return Err(Error::AufsAgain {
                    root: self.root.clone(),
                    new: changes.new,
                });
            }
        }
        // Everything was moved out first, so this is another one, whatever it contains.
        let steps = steps(&self.root, &self.story.removal, &self.waiting());
        match steps.into_iter().find(|(from, _)| is_there(from)) {
            Some((path, _)) => Err(Error::SetOutTwice { path }),
            None => Ok(()),
        }
    }

    /// Checks that what waits for its removal is what was checked when the removal began.
    ///
    /// # Errors
    ///
    /// [`Error::RestChanged`]; nothing has been changed.
    pub fn expect_rest_is_known(&self) -> Result<(), Error> {
        let Some(pieces) = &self.story.removal.pieces else {
            return Ok(());
        };
        let mut changed = Vec::new();
        for (side, at) in self.waiting().sides() {
            let shown = at
                .strip_prefix(&self.root)
                .unwrap_or(&at)
                .with_file_name("");
            let unknown = pieces.unknown(side, &at)?.into_iter();
            changed.extend(unknown.map(|name| format!("{}{name}", shown.display())));
        }
        let going = self.waiting().going().into_iter();
        let began = self.story.removal.began;
        let written = going.flat_map(|going| written_after(&going, began));
        changed.extend(written.map(|path| tree::shown(&path)));
        if changed.is_empty() {
            return Ok(());
        }
        Err(Error::RestChanged {
            root: self.root.clone(),
            changed,
        })
    }

    /// Checks for obstacles to removing the aufs side that would otherwise show only halfway through: mounts,
    /// directories that cannot be moved, and something in the place of the record that remains.
    ///
    /// # Errors
    ///
    /// [`Error::Mounted`], [`Error::Unchangeable`], [`Error::RecordInTheWay`]; nothing has been changed.
    pub fn expect_removable(&self) -> Result<(), Error> {
        expect_unmounted_aufs_side(&self.root)?;
        expect_changeable(&self.root)?;
        CommitRecord::expect_place(&self.root)
    }

    /// Records the state of the aufs side before the last check, to determine whether somebody writes to it between
    /// then and the moment when it is out of the root.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn untouched(&self) -> Result<PiecesBefore, Error> {
        let [aufs, image] = AUFS_SIDE.map(|from| self.root.join(from));
        let stays = self.aufs_stays();
        // A link itself has no pieces.
        let aufs = if stays {
            aufs.canonicalize().unwrap_or(aufs)
        } else {
            aufs
        };
        Pieces::of(&aufs, &image, stays).map(PiecesBefore)
    }

    /// Removes the aufs side, and then the conversion's own traces. It can be called again after a failure or a kill.
    /// `is_proven` says whether the devicemapper side is still as it was when it was checked.
    ///
    /// # Errors
    ///
    /// As for [`expect_removable`](Self::expect_removable); [`Error::NotAlone`], [`Error::NotBegun`] while nothing is
    /// gone and [`Error::Removing`] from then on, [`Error::WrittenMeanwhile`] with everything in its place,
    /// [`Error::Interrupted`] if `stop` says so, and [`Error::NotRemoved`] once everything removable is gone.
    pub fn remove_aufs_side(
        &self,
        seen: (&PiecesBefore, &dyn Fn() -> bool),
        alone: ExpectAlone<'_>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        self.expect_removable()?;
        alone().map_err(not_alone(&self.root, "commit"))?;
        if stop() {
            return Err(Error::Interrupted);
        }
        // Once the first part is gone, nothing more is moved out.
        let removal = if self.story.state == State::Committing {
            self.story.removal.clone()
        } else {
            let PiecesBefore(pieces) = seen.0;
            let removal = self.removal_of(pieces.clone());
            match self.take_out(&removal, seen) {
                Err(written @ Error::WrittenMeanwhile { .. }) => {
                    let back = self.put_back(&removal, "commit", alone);
                    back.map_err(|cause| self.broken_off(cause))?;
                    return Err(written);
                }
                taken => taken.map_err(|cause| self.broken_off(cause))?,
            }
            removal
        };
        self.remove_all(&removal, stop)
            .map_err(|cause| self.broken_off(cause))
    }

    /// Whether the new image store has no names because the file of names was damaged.
    fn left_names_out(&self) -> bool {
        let damage = self.damage_record();
        damage.is_some_and(|damage| damage.edits.is_left_out(Path::new(IMAGE_NAMES)))
    }

    fn removal_of(&self, pieces: Pieces) -> Removal {
        let store = self.root.join("image/aufs");
        // A store that cannot be read gives no information.
        let without = docker::images_without_layers(&store).ok();
        Removal {
            began: Some(precisely_now()),
            beside: self.aufs_stays().then(Removal::draw_name),
            pieces: Some(pieces),
            in_two_steps: true,
            store: StoreOfAufs {
                images_without_layers: without.map(|images| images.into_keys().collect()),
                has_names: Some(store.join(IMAGE_NAMES).is_file() && !self.left_names_out()),
            },
        }
    }

    /// Moves the aufs side out of the root. It is renamed first: whatever happens while millions of files are removed,
    /// no daemon mistakes the rest for an aufs root.
    fn take_out(
        &self,
        removal: &Removal,
        (untouched, is_proven): (&PiecesBefore, &dyn Fn() -> bool),
    ) -> Result<(), Error> {
        let waiting = removal.waiting(&self.root, &self.stage);
        // Before the beginning is recorded, because the disk may be full.
        make(&waiting.image_in)?;
        if removal.beside.is_none() {
            make_room(&waiting)?;
        }
        let begins = Record::Committing(Box::new(removal.clone()));
        Journal::reopen(&self.stage)?.append(&begins)?;
        if removal.beside.is_some() {
            // After the record: otherwise nobody would know about a directory that a kill leaves.
            make(&waiting.aufs_in)?;
            make(&waiting.aufs_in.join("aufs"))?;
            make_room(&waiting)?;
        }
        for (from, to) in steps(&self.root, removal, &waiting) {
            set_out(&from, &to)?;
        }
        self.sync_set_out(&waiting)?;
        self.expect_untouched(&waiting, untouched, is_proven)?;
        Journal::reopen(&self.stage)?.append(&Record::Removing)
    }

    /// Checks both sides once nobody can find the aufs side in its old place: any write that is visible now happened
    /// before.
    fn expect_untouched(
        &self,
        waiting: &WaitingPlace,
        untouched: &PiecesBefore,
        is_proven: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let [(_, aufs), (_, image)] = waiting.sides();
        let side = if !untouched.0.is_same(&Pieces::of(&aufs, &image, false)?) {
            "aufs"
        } else if is_proven() {
            return Ok(());
        } else {
            "devicemapper"
        };
        Err(Error::WrittenMeanwhile {
            root: self.root.clone(),
            side,
        })
    }

    /// Removes what is out of the root, and then the rest of the conversion.
    fn remove_all(&self, removal: &Removal, stop: &dyn Fn() -> bool) -> Result<(), Error> {
        let waiting = removal.waiting(&self.root, &self.stage);
        let aufs = self.root.join("aufs");
        all_removed(&aufs, remove_waiting(&waiting, stop)?)?;
        // This goes last, because the rest could not be found without it.
        if removal.beside.is_some() && aufs.is_symlink() {
            fs::remove_file(&aufs).map_err(Error::io(&aufs, "remove"))?;
        }
        let story = JournalState::read(&self.stage)?;
        let story = story.as_ref().unwrap_or(&self.story);
        CommitRecord::of(story).write(&self.root, &self.stage)?;
        remove_stage(&self.stage)
    }

    fn waiting(&self) -> WaitingPlace {
        self.story.removal.waiting(&self.root, &self.stage)
    }

    /// Makes the present location of the aufs side durable.
    fn sync_set_out(&self, waiting: &WaitingPlace) -> Result<(), Error> {
        let mut places = vec![
            self.root.clone(),
            self.root.join("image"),
            waiting.image_in.clone(),
        ];
        if waiting.aufs_in != waiting.image_in {
            let inside = waiting.aufs_in.join("aufs");
            let around = [&*waiting.aufs_in, above(&waiting.aufs_in), &*inside];
            places.extend(around.map(Path::to_owned));
        }
        let mut there = places.iter().filter(|place| is_there(place));
        Ok(there.try_for_each(|place| sync_directory(place))?)
    }

    /// Moves an aufs side that is on its way out back to its place, as long as nothing of it has been removed. It can
    /// be called again after a failure or a kill.
    ///
    /// # Errors
    ///
    /// [`Error::NotAlone`], [`Error::SetOutTwice`] if something else is in its place, [`Error::AufsNotMounted`],
    /// [`Error::NoDirectory`], [`Error::Io`].
    pub fn put_aufs_side_back(
        &self,
        words: &'static str,
        alone: ExpectAlone<'_>,
    ) -> Result<(), Error> {
        self.put_back(&self.story.removal, words, alone)
    }

    fn put_back(
        &self,
        removal: &Removal,
        words: &'static str,
        alone: ExpectAlone<'_>,
    ) -> Result<(), Error> {
        alone().map_err(not_alone(&self.root, words))?;
        let image = self.root.join("image");
        // A rename follows a link on its path.
        if !image.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(Error::NoDirectory { path: image });
        }
        let waiting = removal.waiting(&self.root, &self.stage);
        let steps = steps(&self.root, removal, &waiting);
        let out = steps.iter().filter(|(_, at)| is_there(at));
        // The image store goes out last, so if it is out, everything else is out too.
        if out.clone().any(|(_, at)| at.starts_with(&self.stage)) {
            expect_reached(&self.root, &waiting)?;
        }
        if let Some((path, _)) = out.clone().find(|(from, _)| is_there(from)) {
            let path = path.clone();
            return Err(Error::SetOutTwice { path });
        }
        for (from, at) in out {
            fs::rename(at, from).map_err(Error::io(at, "move back"))?;
        }
        self.sync_set_out(&waiting)?;
        if removal.beside.is_some() {
            all_removed(&waiting.aufs_in, remove_room(&waiting))?;
            for place in [waiting.aufs_in.join("aufs"), waiting.aufs_in] {
                match fs::remove_dir(&place) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(Error::io(&place, "remove")(error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The error for a failed removal, which says what it left.
    pub(super) fn broken_off(&self, cause: Error) -> Error {
        let root = self.root.clone();
        let now = JournalState::read(&self.stage).ok().flatten();
        let is_whole = now.as_ref().is_some_and(|story| story.aufs_is_whole);
        let removal = now.map(|story| story.removal).unwrap_or_default();
        let is_out = removal.waiting(&self.root, &self.stage).is_used();
        match cause {
            // These errors say what is left.
            Error::Interrupted | Error::NotRemoved { .. } | Error::SetOutTwice { .. } => cause,
            cause if is_whole && is_out => Error::SettingOut {
                root,
                cause: Box::new(cause),
            },
            cause if !is_whole && (is_out || removal_has_begun(&self.root)) => Error::Removing {
                root,
                cause: Box::new(cause),
            },
            cause => Error::NotBegun {
                root,
                cause: Box::new(cause),
                words: "commit",
            },
        }
    }
}

/// The renames that move the aufs side out of the root, with the places where it waits afterwards. If `aufs` stays,
/// they move the driver's directories in it.
fn steps(root: &Path, removal: &Removal, waiting: &WaitingPlace) -> Vec<(PathBuf, PathBuf)> {
    let [(_, aufs), (_, image)] = waiting.sides();
    let [from_aufs, from_image] = AUFS_SIDE.map(|from| root.join(from));
    let mut steps: Vec<_> = if removal.beside.is_some() {
        let real = above(&waiting.aufs_in);
        PARTS
            .iter()
            .map(|part| (real.join(part), aufs.join(part)))
            .collect()
    } else {
        vec![(from_aufs, aufs)]
    };
    steps.push((from_image, image));
    steps
}

/// Checks that, if `aufs` exists and stays, something waits in it as long as something waits in the staging directory.
fn expect_reached(root: &Path, waiting: &WaitingPlace) -> Result<(), Error> {
    let path = root.join("aufs");
    let is_beside = waiting.aufs_in != waiting.image_in;
    if is_beside && is_there(&path) && is_there(&waiting.image_in) && !is_there(&waiting.aufs_in) {
        return Err(Error::AufsNotMounted {
            root: root.to_owned(),
            path,
        });
    }
    Ok(())
}

fn make(path: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created.map_err(Error::io(path, "create")),
    }
}

/// Moves something out of the root, if it exists.
fn set_out(from: &Path, to: &Path) -> Result<(), Error> {
    if !is_there(from) {
        return Ok(());
    }
    if is_there(to) {
        return Err(Error::SetOutTwice {
            path: from.to_owned(),
        });
    }
    fs::rename(from, to).map_err(Error::io(from, "move out of the root"))
}

fn above(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}
