//! A conversion that was begun, taken up by a later command: to go on with the move, to go back, or to do without the
//! aufs side.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::aufs_changes::AufsChanges;
use super::aufs_side::Depth;
use super::beside;
use super::committed::Committed;
use super::error::Error;
use super::journal::{
    Journal, Record, State, Story, Switching, is_set_out, now, removal_has_begun, sync_directory,
};
use super::leftover::Leftover;
use super::moves::{Ground, Move};
use super::originals;
use super::others;
use super::removal::{Emptied, Removal, StoreOfAufs};
use super::remove::{
    all_removed, expect_changeable, expect_unmounted_aufs_side, expect_unmounted_result,
    remove_stage,
};
use super::since::{Changes, DRIVER, IMAGE_NAMES, read_regular};
use super::size;
use super::stage::sync_file_system;
use super::stamp;
use super::switch::{self, ExpectAlone, TakenBack, Untold, not_alone};
use super::verified::Verified;
use super::whereabouts::{Whereabouts, in_the_way};
use crate::chain::Chain;
use crate::docker::daemon::Host;
use crate::docker::first_start::check_recorded;
use crate::docker::{self, CacheId, config_with_driver};
use crate::removal::{Kept, remove_unless};
use crate::units::Bytes;
use crate::verify::BranchNow;

/// A conversion that was begun in a root.
#[derive(Debug)]
pub struct Conversion {
    root: PathBuf,
    stage: PathBuf,
    /// Where the containers' configs are staged.
    configs: PathBuf,
    story: Story,
}

/// The directories of the aufs side, where they wait for their removal, and what of them goes where they cannot be moved since they
/// are on another file system: nothing, for all. What the aufs driver keeps in its directory:
/// moby v20.10 `daemon/graphdriver/aufs/aufs.go`, `Init`.
const AUFS_SIDE: [(&str, &str, &[&str]); 2] = [
    ("aufs", "removed/aufs", &["diff", "layers", "mnt"]),
    ("image/aufs", "removed/image", &[]),
];

impl Conversion {
    /// Takes up the conversion in `root`; `None` if none was begun. [`RootLock`](super::RootLock) must be held before anything is
    /// changed.
    ///
    /// # Errors
    ///
    /// As [`Leftover::look_for`].
    pub fn find(root: &Path) -> Result<Option<Self>, Error> {
        Ok(match Leftover::look_for(root)? {
            Leftover::Conversion(stage, story) => Some(Self {
                root: root.to_owned(),
                configs: beside::configs(root, &stage, story.beside.as_ref()),
                stage,
                story: *story,
            }),
            Leftover::None | Leftover::Stage(_) => None,
        })
    }

    /// What its journal tells.
    pub fn story(&self) -> &Story {
        &self.story
    }

    /// The Docker root that it is in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its staging directory.
    pub fn stage(&self) -> &Path {
        &self.stage
    }

    fn ground(&self) -> Ground<'_> {
        Ground {
            root: &self.root,
            stage: &self.stage,
            configs: &self.configs,
        }
    }

    /// What Docker did on the devicemapper side since it was staged. Of a move that was interrupted, forward or back, parts may have been
    /// in place meanwhile, and Docker may have found them.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn changes(&self) -> Result<Changes, Error> {
        let Some(switching) = &self.story.switching else {
            return Ok(Changes::default());
        };
        let at = match self.story.state {
            State::Converted => Whereabouts::in_place(self.ground()),
            State::Switching | State::RollingBack => Whereabouts::look(switching, self.ground()),
            State::Writing | State::Committing => return Ok(Changes::default()),
        };
        switch::changes(switching, &at)
    }

    /// Makes sure that nothing lies where the rest of an interrupted move comes: Docker makes what it does not find.
    ///
    /// # Errors
    ///
    /// [`Error::InTheWay`]; nothing has been changed.
    pub fn expect_way_free(&self) -> Result<(), Error> {
        let Some(switching) = &self.story.switching else {
            return Ok(());
        };
        let found = in_the_way(switching, self.ground())?;
        if found.is_empty() {
            return Ok(());
        }
        Err(Error::InTheWay {
            root: self.root.clone(),
            found,
        })
    }

    /// What became of the aufs side since it was converted; `None` where that was not noted, or nothing is in place.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn aufs_changes(&self, depth: Depth) -> Result<Option<AufsChanges>, Error> {
        let aufs = self
            .story
            .switching
            .as_ref()
            .and_then(|one| one.aufs.as_ref());
        match (aufs, self.story.state) {
            (Some(aufs), State::Switching | State::Converted | State::RollingBack) => {
                aufs.changes(&self.root, depth).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// A digest of when each entry of the converted branches was last changed; `None` where they are not known, or are gone.
    pub fn aufs_times(&self) -> Option<String> {
        let switching = self.story.switching.as_ref();
        let is_there = self.root.join("aufs/diff").is_dir();
        let aufs = switching.and_then(|one| one.aufs.as_ref());
        aufs.filter(|_| is_there).map(|aufs| aufs.times(&self.root))
    }

    /// When the conversion was in place, in seconds since 1970.
    pub fn switched_at(&self) -> Option<i64> {
        i64::try_from(self.story.switched_at?).ok()
    }

    /// What [`aufs_times`](Self::aufs_times) was when the root was converted, where that was noted.
    pub fn aufs_times_then(&self) -> Option<&str> {
        let switching = self.story.switching.as_ref()?;
        switching.aufs.as_ref()?.times_then()
    }

    /// The same of the latest time when the aufs side was known to be right: when a full verification found nothing against it, or when it
    /// was converted.
    pub fn aufs_times_known(&self) -> Option<&str> {
        match &self.story.verified.of_aufs {
            Some(verified) => verified.aufs_times.as_deref(),
            None => self.aufs_times_then(),
        }
    }

    /// What became of a branch since it was converted.
    pub fn branch_now(&self, id: &CacheId) -> BranchNow {
        let switching = self.story.switching.as_ref();
        match switching.and_then(|one| one.aufs.as_ref()) {
            Some(aufs) => aufs.branch(&self.root, id.as_str()),
            None => BranchNow::Unknown,
        }
    }

    /// Whether what the image store beside the devices has at a path, relative to the store, is what was copied there.
    pub fn is_copied(&self, inner: &Path) -> bool {
        let switching = self.story.switching.as_ref();
        let aufs = switching.and_then(|one| one.aufs.as_ref());
        let copy = self.root.join("image/devicemapper");
        aufs.is_some_and(|aufs| aufs.is_copied(&copy, inner))
    }

    /// Whether something beside the converted branches, by its path, is what it was when the root was converted, or was left out then.
    pub fn is_as_it_was(&self, path: &Path) -> bool {
        let switching = self.story.switching.as_ref();
        let aufs = switching.and_then(|one| one.aufs.as_ref());
        let inner = path.strip_prefix(&self.root).unwrap_or(path);
        aufs.is_some_and(|aufs| aufs.is_as_it_was(&self.root, &inner.to_string_lossy()))
    }

    /// Notes digests of devices that were found to be what aufs has: of their entries, and of their files' bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn note_entries(
        &self,
        devices: BTreeMap<String, String>,
        bytes: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        Journal::reopen(&self.stage)?.append(&Record::Entries { devices, bytes })
    }

    /// What of the conversion's own files is damaged, a text each: Docker's small files that differ from what was written although
    /// nobody wrote them since, and the originals that a rollback brings back. Nothing before all is in place.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn damage(&self) -> Result<Vec<String>, Error> {
        let (Some(switching), State::Converted | State::Committing) =
            (&self.story.switching, self.story.state)
        else {
            return Ok(Vec::new());
        };
        let mut damaged = switching.written.damage(&self.root)?;
        damaged.extend(switching.written.lost_containers(&self.root)?);
        damaged.extend(self.damaged_originals()?);
        Ok(damaged)
    }

    /// Containers of a converted root that lost their directories alone, a text each: a rollback has no place for their configs, and with
    /// the stage the last copies would go.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn lost_containers(&self) -> Result<Vec<String>, Error> {
        match (&self.story.switching, self.story.state) {
            (Some(switching), State::Converted) => switching.written.lost_containers(&self.root),
            _ => Ok(Vec::new()),
        }
    }

    /// What of that a rollback would bring back, or would not since it is gone. Of a move that was interrupted, forward or back, what it has
    /// still to bring back.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn damaged_originals(&self) -> Result<Vec<String>, Error> {
        let Some(switching) = &self.story.switching else {
            return Ok(Vec::new());
        };
        let is_in_place = match self.story.state {
            State::Writing | State::Committing => return Ok(Vec::new()),
            State::Converted => true,
            State::Switching | State::RollingBack => false,
        };
        let mut damaged = Vec::new();
        for step in &switching.moves {
            let Move::Replace { to, original, .. } = step else {
                continue;
            };
            if !is_in_place && !names_another_driver(&self.root.join(to))? {
                continue;
            }
            let path = self.configs.join(original);
            let edited = match read_regular(&path)? {
                Some(bytes) => config_with_driver(&bytes, DRIVER).ok().flatten(),
                None => None,
            };
            if !edited.is_some_and(|edited| switching.written.is_config(to, &edited)) {
                damaged.push(format!(
                    "{}: is not the original of {to}, which rollback brings back",
                    path.display()
                ));
            }
        }
        Ok(damaged)
    }

    /// Makes sure that the devicemapper side lies where a journal says that it replaces the aufs side.
    ///
    /// # Errors
    ///
    /// [`Error::NotInPlace`].
    pub fn expect_in_place(&self) -> Result<(), Error> {
        let is_staged =
            |one: &Switching| one.moves.iter().any(|step| step.is_staged(self.ground()));
        let staged = self.story.switching.as_ref().is_none_or(is_staged);
        let missing = IN_PLACE
            .iter()
            .map(|name| self.root.join(name))
            .find(|path| {
                let found = path.symlink_metadata();
                !found.is_ok_and(|meta| meta.is_dir() || meta.is_file() && meta.len() > 0)
            });
        match missing {
            None if !staged => Ok(()),
            _ => Err(Error::NotInPlace {
                path: missing.unwrap_or_else(|| self.root.join("devicemapper")),
                waiting: self.stage.join(REMOVED),
            }),
        }
    }

    /// Makes sure that what the journal has of `daemon.json` is what a conversion for this host writes there, and goes on with the
    /// file where it is now. `options` are those by which Docker finds the pool that was ordered.
    ///
    /// # Errors
    ///
    /// [`Error::Daemon`].
    pub fn check_daemon_file(&mut self, host: &Host, options: &[String]) -> Result<(), Error> {
        let switching = self.story.switching.as_mut();
        match switching.and_then(|switching| switching.daemon.as_mut()) {
            Some(daemon) => check_recorded(daemon, host, options).map_err(Error::Daemon),
            None => Ok(()),
        }
    }

    /// Leaves `daemon.json` as it is, whatever is moved.
    pub fn leave_daemon_file(&mut self) {
        if let Some(switching) = &mut self.story.switching {
            switching.daemon = None;
        }
    }

    /// Moves in place what an interrupted run had not yet moved.
    ///
    /// # Errors
    ///
    /// As [`Stage::switch`](super::Stage::switch). With [`Error::NotAlone`] all stays where it is, and with [`Error::StuckHalfWay`] what has been
    /// moved, for Docker has worked there: nobody looks for that in the staging directory.
    pub fn finish_switch(&self, alone: ExpectAlone<'_>) -> Result<(), Error> {
        let Some(switching) = &self.story.switching else {
            return Ok(());
        };
        alone().map_err(not_alone(&self.root, "resume"))?;
        let is_used = !self.changes()?.is_empty();
        let journal = Journal::reopen(&self.stage)?;
        if !is_used {
            return switch::forward(switching, self.ground(), &journal, Untold::Stay);
        }
        let moved = switch::advance(switching, self.ground(), &journal, Untold::Stay);
        moved.map_err(|cause| Error::StuckHalfWay {
            root: self.root.clone(),
            cause: Box::new(cause),
        })
    }

    /// Notes that what is in place was verified, and what came of it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn note_verified(&self, verified: Verified) -> Result<(), Error> {
        Journal::reopen(&self.stage)?.append(&Record::Verified(verified))
    }

    /// Moves all back. What is then left of the conversion lies in the staging directory.
    ///
    /// # Errors
    ///
    /// [`Error::NotAlone`], [`Error::NotBegun`]: nothing has been changed. [`Error::TakingBack`]: it can be called again.
    pub fn take_back(&self, alone: ExpectAlone<'_>) -> Result<TakenBack, Error> {
        alone().map_err(not_alone(&self.root, "rollback"))?;
        let taking_back = |cause| Error::TakingBack {
            root: self.root.clone(),
            cause: Box::new(cause),
        };
        let Some(switching) = &self.story.switching else {
            match Journal::reopen(&self.stage) {
                Ok(journal) => journal.note_undone(),
                Err(error) => log::debug!("{}", Chain(&error)),
            }
            return Ok(TakenBack::default());
        };
        let going_back = Record::RollingBack {
            aufs_times: self.aufs_times(),
        };
        Journal::reopen(&self.stage)
            .and_then(|journal| journal.append(&going_back))
            .map_err(|cause| match self.story.state {
                // A run before this one may have moved something.
                State::Switching | State::RollingBack => taking_back(cause),
                _ => Error::NotBegun {
                    root: self.root.clone(),
                    cause: Box::new(cause),
                    words: "rollback",
                },
            })?;
        let mut taken_back = switch::restore_daemon_or_say(switching);
        let gone = switch::back(switching, self.ground()).map_err(taking_back)?;
        taken_back.gone.extend(gone);
        Ok(taken_back)
    }

    /// Removes the staging directory, as the last step of a rollback.
    ///
    /// # Errors
    ///
    /// [`Error::NotRemoved`] and [`Error::TakingBack`]: it can be called again.
    pub fn remove(self) -> Result<(), Error> {
        self.expect_originals_back()?;
        remove_stage(&self.stage).map_err(|cause| match cause {
            // All is back, and what is left is in nobody's way.
            Error::NotRemoved { .. } => cause,
            cause => Error::TakingBack {
                root: self.root.clone(),
                cause: Box::new(cause),
            },
        })?;
        self.story.begun.root.put_back(&self.root);
        Ok(())
    }

    /// Whatever the journal says was moved: what is the only copy stays.
    fn expect_originals_back(&self) -> Result<(), Error> {
        let Some(kept) = originals::only_copy(&self.root, &self.configs)? else {
            return Ok(());
        };
        let top = self.configs.join("originals");
        let path = self.root.join(kept.strip_prefix(top).unwrap_or(&kept));
        Err(Error::TakingBack {
            root: self.root.clone(),
            cause: Box::new(Error::OnlyOriginal { path, kept }),
        })
    }

    /// Bytes that the removal of the aufs side gives back.
    pub fn bytes_of_aufs(&self) -> Bytes {
        let mut places = vec![self.stage.join(REMOVED)];
        for (from, _, parts) in AUFS_SIDE {
            let from = self.root.join(from);
            if !parts.is_empty() && self.aufs_stays() {
                places.extend(parts.iter().map(|part| from.join(part)));
            } else {
                places.push(from);
            }
        }
        size::of(places.iter().map(PathBuf::as_path))
    }

    /// Bytes that the removal of the staging directory gives back, with all that was taken back into it.
    pub fn bytes_staged(&self) -> Bytes {
        size::of([&*self.stage])
    }

    /// Whether `aufs` stays when the aufs side is removed, and with it what is not the driver's: it is a link or a mount point.
    pub fn aufs_stays(&self) -> bool {
        let is_link = self
            .root
            .join("aufs")
            .symlink_metadata()
            .is_ok_and(|meta| meta.is_symlink());
        is_link || beside::is_own_mount(&self.root, "aufs").unwrap_or(false)
    }

    /// Makes sure that an `aufs` that is being emptied in its place is there to be emptied: behind a mount that is gone nothing would be
    /// seen of it.
    ///
    /// # Errors
    ///
    /// [`Error::AufsNotMounted`]; nothing has been changed.
    pub fn expect_aufs_reached(&self) -> Result<(), Error> {
        let path = self.root.join("aufs");
        let is_there = path.symlink_metadata().is_ok();
        let is_another = || {
            let was = self.story.removal.emptied.as_ref();
            was.is_some_and(|was| !Emptied::now(&path).is_some_and(|now| now.is(was)))
        };
        if self.story.removal.stays && is_there && (!self.aufs_stays() || is_another()) {
            return Err(Error::AufsNotMounted {
                root: self.root.clone(),
                path,
            });
        }
        Ok(())
    }

    /// Makes sure that what is left of an aufs side that is being removed is of the one that was converted, and was not written to since.
    ///
    /// # Errors
    ///
    /// [`Error::AufsAgain`], [`Error::SetOutTwice`]; nothing has been changed.
    pub fn expect_rest_is_known(&self) -> Result<(), Error> {
        let switching = self.story.switching.as_ref();
        let Some(aufs) = switching.and_then(|one| one.aufs.as_ref()) else {
            return Ok(());
        };
        let mut changes = aufs.changes(&self.root, Depth::Names)?;
        if self.aufs_stays() {
            changes = changes.of_the_driver();
        }
        // Where the other name of a file went first, what is left of a branch can look new.
        changes.new.retain(|path| !aufs.is_in_a_branch(path));
        if let Some(at) = self.story.removal.at {
            for part in ["aufs", ".aufs2dm/removed/aufs"] {
                changes.new.extend(aufs.written_after(&self.root, part, at));
            }
        }
        if !changes.new.is_empty() {
            return Err(Error::AufsAgain {
                root: self.root.clone(),
                new: changes.new,
            });
        }
        // One that does not stay was moved out first, so this is another, whatever it has.
        let path = self.root.join("aufs");
        if !self.story.removal.stays && path.symlink_metadata().is_ok() {
            return Err(Error::SetOutTwice { path });
        }
        Ok(())
    }

    /// Makes sure that all that a rollback moves and removes is free of mounts.
    ///
    /// # Errors
    ///
    /// [`Error::Mounted`].
    pub fn expect_unmounted(&self) -> Result<(), Error> {
        expect_unmounted_result(&self.root)
    }

    /// Makes sure that no attribute flag forbids a step of the way back, and that none loses a config.
    ///
    /// # Errors
    ///
    /// [`Error::Unchangeable`], [`Error::OnlyOriginal`]; nothing has been changed.
    pub fn expect_way_back(&self) -> Result<(), Error> {
        let mut flagged = Kept::default();
        for step in self.story.switching.iter().flat_map(|one| &one.moves) {
            step.expect_way_back(self.ground(), &mut flagged)?;
        }
        if flagged.is_empty() {
            return Ok(());
        }
        Err(Error::Unchangeable { kept: flagged })
    }

    /// Makes sure that nobody else's files are in what `rollback` removes.
    ///
    /// # Errors
    ///
    /// [`Error::OthersFiles`]; nothing has been changed.
    pub fn expect_nobody_elses(&self) -> Result<(), Error> {
        let mut files =
            others::in_stage(&self.root, (&self.stage, &self.configs), Some(&self.story))?;
        if let Some(switching) = &self.story.switching {
            let aufs = switching.aufs.as_ref();
            files.extend(others::in_result(&self.root, &switching.written, aufs)?);
        }
        others::expect_none(&self.root, files, "rollback")
    }

    /// The same of what goes with the journal.
    ///
    /// # Errors
    ///
    /// [`Error::OthersFiles`]; nothing has been changed.
    pub fn expect_stage_is_own(&self, words: &'static str) -> Result<(), Error> {
        let files = others::in_stage(&self.root, (&self.stage, &self.configs), Some(&self.story))?;
        others::expect_none(&self.root, files, words)
    }

    /// The same of what goes with the journal once all is moved back.
    ///
    /// # Errors
    ///
    /// [`Error::OthersFiles`]; nothing has been removed.
    pub fn expect_rest_is_own(&self) -> Result<(), Error> {
        self.expect_stage_is_own("rollback")
            .map_err(|error| match error {
                Error::OthersFiles {
                    root, files, words, ..
                } => Error::OthersFiles {
                    root,
                    files,
                    words,
                    is_begun: true,
                },
                error => error,
            })
    }

    /// Makes sure that nothing stands in the way of removing the aufs side that would be seen only on the way: mounts, and directories
    /// that cannot be moved, and what takes the place of the record that stays.
    ///
    /// # Errors
    ///
    /// [`Error::Mounted`], [`Error::Unchangeable`], [`Error::RecordInTheWay`]; nothing has been changed.
    pub fn expect_removable(&self) -> Result<(), Error> {
        expect_unmounted_aufs_side(&self.root)?;
        expect_changeable(&self.root)?;
        Committed::expect_place(&self.root)
    }

    /// Takes down what the aufs side is, before it is looked at for the last time, to tell whether somebody writes to it from then on until it
    /// is out of the root.
    pub fn untouched(&self) -> Untouched {
        let [aufs, image] = AUFS_SIDE.map(|(from, _, _)| self.root.join(from));
        Untouched(stamp::of(&aufs, &image))
    }

    /// Removes the aufs side, and the conversion's own traces after it. It can be called again after a failure or a kill. `is_proven` tells
    /// whether the devicemapper side is still as it was looked at.
    ///
    /// # Errors
    ///
    /// As [`expect_removable`](Self::expect_removable), [`Error::NotAlone`], [`Error::NotBegun`] while nothing is gone and [`Error::Removing`]
    /// from then on, [`Error::WrittenMeanwhile`] with all in its place, [`Error::Interrupted`] when `stop` says so, and [`Error::NotRemoved`] when
    /// all is removed that can be.
    pub fn remove_aufs_side(
        &self,
        seen: (&Untouched, &dyn Fn() -> bool),
        alone: ExpectAlone<'_>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        self.expect_removable()?;
        alone().map_err(not_alone(&self.root, "commit"))?;
        if stop() {
            return Err(Error::Interrupted);
        }
        let taken = self
            .begin_removal()
            .and_then(|()| self.take_out(seen, stop));
        match taken {
            Err(written @ Error::WrittenMeanwhile { .. }) => self
                .put_aufs_side_back("commit", alone)
                .map_err(|cause| self.broken_off(cause))
                .and(Err(written)),
            taken => taken.map_err(|cause| self.broken_off(cause)),
        }
    }

    /// Makes the directory in which the aufs side waits, and notes that it goes. Where `aufs` stays, that directory tells that something
    /// is gone, so there it comes last; else it comes first, for a disk may be full.
    fn begin_removal(&self) -> Result<(), Error> {
        let waiting = self.stage.join(REMOVED);
        let make = || match DirBuilder::new().mode(0o700).create(&waiting) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            created => created.map_err(Error::io(&waiting, "create")),
        };
        let stays = self.aufs_stays();
        let note = || {
            if self.story.state == State::Committing {
                return Ok(());
            }
            let aufs = self.root.join("aufs");
            let removal = Removal {
                at: Some(now()),
                stays,
                emptied: stays.then(|| Emptied::now(&aufs)).flatten(),
                in_two_steps: true,
                store: self.store_of_aufs(),
            };
            Journal::reopen(&self.stage)?.append(&Record::Committing(Box::new(removal)))
        };
        if stays {
            note().and_then(|()| make())
        } else {
            make().and_then(|()| note())
        }
    }

    fn store_of_aufs(&self) -> StoreOfAufs {
        let store = self.root.join("image/aufs");
        // One that cannot be read tells nothing.
        let without = docker::images_without_layers(&store).ok();
        StoreOfAufs {
            images_without_layers: without.map(|images| images.into_keys().collect()),
            has_names: Some(store.join(IMAGE_NAMES).is_file()),
        }
    }

    /// Makes durable what stays when the aufs side goes: whoever copied the root here may not have synced it, and a power cut would take it
    /// along with what goes. That may take minutes, so all is looked at after it.
    ///
    /// # Errors
    ///
    /// [`Error::NotBegun`], or [`Error::Removing`] of a removal that goes on.
    pub fn sync_what_stays(&self) -> Result<(), Error> {
        self.sync_both_sides()
            .map_err(|cause| self.broken_off(cause))
    }

    /// Makes the aufs side durable that a rollback has brought back, before the other one goes.
    ///
    /// # Errors
    ///
    /// [`Error::TakingBack`].
    pub fn sync_what_is_back(&self) -> Result<(), Error> {
        self.sync_both_sides().map_err(|cause| Error::TakingBack {
            root: self.root.clone(),
            cause: Box::new(cause),
        })
    }

    /// Configs of containers that are not what was converted though their containers are there, a text each: somebody removed or damaged
    /// them while the way back was interrupted. One that aufs' Docker may have written meanwhile is none of them.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn configs_lost(&self) -> Result<Vec<String>, Error> {
        let moves = self.story.switching.iter().flat_map(|one| &one.moves);
        let mut lost = Vec::new();
        for step in moves.filter(|step| matches!(step, Move::Replace { .. })) {
            let path = self.root.join(step.to());
            if !path.parent().is_some_and(Path::is_dir) {
                continue;
            }
            let what = match read_regular(&path)? {
                None => "is missing, and was there when it was converted",
                Some(bytes) if is_config_of_aufs(&bytes) => continue,
                Some(_) => {
                    "is not the config of a container of aufs any more, which it was when it was converted"
                }
            };
            lost.push(format!("{}: {what}", path.display()));
        }
        Ok(lost)
    }

    fn sync_both_sides(&self) -> Result<(), Error> {
        for name in ["data", "metadata"] {
            let path = self.root.join("devicemapper/devicemapper").join(name);
            if path.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
                let file = File::open(&path).map_err(Error::io(&path, "open"))?;
                file.sync_all().map_err(Error::io(&path, "sync"))?;
            }
        }
        for part in ["", "devicemapper", "aufs", "image", "containers"] {
            let path = self.root.join(part);
            if path.is_dir() {
                sync_file_system(&path)?;
            }
        }
        Ok(())
    }

    fn take_out(
        &self,
        (untouched, is_proven): (&Untouched, &dyn Fn() -> bool),
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let waiting = self.stage.join(REMOVED);
        let mut kept = Kept::default();
        let is_noted = Cell::new(self.is_being_removed());
        let note = || {
            if is_noted.replace(true) {
                return Ok(());
            }
            Journal::reopen(&self.stage)?.append(&Record::Removing)
        };
        // Renamed first: whatever happens while millions of files are removed, no daemon takes the rest for a root of aufs.
        for (from, to, parts) in AUFS_SIDE {
            let to = self.stage.join(to);
            kept.extend(set_out(&self.root.join(from), &to, parts, (&note, stop))?);
        }
        self.sync_set_out()?;
        if !is_noted.get() {
            self.expect_untouched(untouched, is_proven)?;
        }
        note()?;
        kept.extend(remove_waiting(&waiting, kept.is_empty(), stop)?);
        all_removed(&self.root.join("aufs"), kept)?;
        let story = Story::read(&self.stage)?;
        let story = story.as_ref().unwrap_or(&self.story);
        Committed::of(story).write(&self.root, &self.stage)?;
        remove_stage(&self.stage)
    }

    /// Nobody finds the aufs side any more where it was: what is still to be seen was written before.
    fn expect_untouched(
        &self,
        untouched: &Untouched,
        is_proven: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let [aufs, image] = AUFS_SIDE.map(|(_, to, _)| self.stage.join(to));
        let side = if stamp::of(&aufs, &image) != untouched.0 {
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

    /// Whether something of the aufs side may be gone for good.
    fn is_being_removed(&self) -> bool {
        self.story.state == State::Committing && !self.story.aufs_is_whole
    }

    /// Makes durable where the aufs side is now.
    fn sync_set_out(&self) -> Result<(), Error> {
        let places = [
            self.root.clone(),
            self.root.join("image"),
            self.stage.join(REMOVED),
        ];
        places.iter().try_for_each(|place| sync_directory(place))
    }

    /// Moves an aufs side that is on its way out back to its place, as long as nothing of it has been removed. It can be called again after
    /// a failure or a kill.
    ///
    /// # Errors
    ///
    /// [`Error::NotAlone`], [`Error::SetOutTwice`] where something else is in its place, [`Error::NoDirectory`], [`Error::Io`].
    pub fn put_aufs_side_back(
        &self,
        words: &'static str,
        alone: ExpectAlone<'_>,
    ) -> Result<(), Error> {
        alone().map_err(not_alone(&self.root, words))?;
        let image = self.root.join("image");
        // A rename follows a link on its way.
        if !image.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(Error::NoDirectory { path: image });
        }
        let out = AUFS_SIDE.map(|(to, from, _)| (self.stage.join(from), self.root.join(to)));
        let out = out
            .iter()
            .filter(|(from, _)| from.symlink_metadata().is_ok());
        if let Some((_, path)) = out.clone().find(|(_, to)| to.symlink_metadata().is_ok()) {
            let path = path.clone();
            return Err(Error::SetOutTwice { path });
        }
        for (from, to) in out {
            fs::rename(from, to).map_err(Error::io(from, "move back"))?;
        }
        self.sync_set_out()
    }

    /// What a removal that failed has left.
    fn broken_off(&self, cause: Error) -> Error {
        let root = self.root.clone();
        let (stays, ground) = (self.aufs_stays(), self.ground());
        let now = Story::read(&self.stage).ok().flatten();
        let is_whole = now.is_some_and(|story| story.aufs_is_whole);
        match cause {
            // These say themselves what is left.
            Error::Interrupted | Error::NotRemoved { .. } | Error::SetOutTwice { .. } => cause,
            cause if is_whole && is_set_out(ground) => Error::SettingOut {
                root,
                cause: Box::new(cause),
            },
            cause if !is_whole && removal_has_begun(ground, stays || self.story.removal.stays) => {
                Error::Removing {
                    root,
                    cause: Box::new(cause),
                }
            }
            cause => Error::NotBegun {
                root,
                cause: Box::new(cause),
                words: "commit",
            },
        }
    }
}

/// Whether it is one that a conversion would switch.
fn is_config_of_aufs(bytes: &[u8]) -> bool {
    matches!(config_with_driver(bytes, DRIVER), Ok(Some(_)))
}

/// Whether there is a config of a container that is not one of aufs.
fn names_another_driver(path: &Path) -> Result<bool, Error> {
    let bytes = read_regular(path)?;
    Ok(bytes.is_some_and(|bytes| matches!(config_with_driver(&bytes, DRIVER), Ok(None))))
}

/// What an aufs side was before the last look at it.
#[derive(Debug)]
pub struct Untouched(String);

/// Removes an aufs side that waits for it. The image store goes last: as long as the branches go, it is what the copy beside the devices is
/// compared with. The directory itself tells of an `aufs` that is emptied in its place that something of it is gone, so it stays as long as
/// not all is.
fn remove_waiting(waiting: &Path, is_all: bool, stop: &dyn Fn() -> bool) -> Result<Kept, Error> {
    let remove = |path: &Path| remove_unless(path, stop).ok_or(Error::Interrupted);
    let mut kept = remove(&waiting.join("aufs"))?;
    kept.extend(remove(&waiting.join("image"))?);
    if is_all && kept.is_empty() {
        kept.extend(remove(waiting)?);
    }
    Ok(kept)
}

/// Where the aufs side waits for its removal, in the staging directory.
const REMOVED: &str = "removed";

/// What Docker's devicemapper driver cannot do without.
const IN_PLACE: [&str; 4] = [
    "devicemapper",
    "devicemapper/metadata",
    "devicemapper/metadata/base",
    "image/devicemapper/layerdb",
];

/// Moves a directory out of the root. Where it is a link to elsewhere, or cannot be moved since it is a mount point, what is the
/// driver's in it goes, and nothing else; `note` tells that before.
fn set_out(
    from: &Path,
    to: &Path,
    parts: &[&str],
    (note, stop): (&dyn Fn() -> Result<(), Error>, &dyn Fn() -> bool),
) -> Result<Kept, Error> {
    let meta = match from.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
        meta => meta.map_err(Error::io(from, "look at"))?,
    };
    if to.symlink_metadata().is_ok() {
        return Err(Error::SetOutTwice {
            path: from.to_owned(),
        });
    }
    if meta.is_symlink() {
        note()?;
        let kept = empty(from, parts, stop)?;
        // Without the link the rest would not be found again.
        if !kept.is_empty() {
            return Ok(kept);
        }
    }
    match fs::rename(from, to) {
        Err(error) if is_mount_point(&error) => note().and_then(|()| empty(from, parts, stop)),
        renamed => renamed
            .map(|()| Kept::default())
            .map_err(Error::io(from, "move out of the root")),
    }
}

fn is_mount_point(error: &io::Error) -> bool {
    [Errno::EBUSY, Errno::EXDEV]
        .iter()
        .any(|errno| error.raw_os_error() == Some(*errno as i32))
}

fn empty(path: &Path, parts: &[&str], stop: &dyn Fn() -> bool) -> Result<Kept, Error> {
    let remove = |path: &Path| remove_unless(path, stop).ok_or(Error::Interrupted);
    if parts.is_empty() {
        return remove(path);
    }
    let mut kept = Kept::default();
    let real = match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(kept),
        real => real.map_err(Error::io(path, "look at"))?,
    };
    for part in parts {
        kept.extend(remove(&real.join(part))?);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::commit::{STAGE_NAME, Times};

    #[test]
    fn a_removal_that_fails_says_whether_anything_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let stage = dir.path().join(STAGE_NAME);
        for part in ["aufs", "image/aufs", STAGE_NAME] {
            fs::create_dir_all(dir.path().join(part)).unwrap();
        }
        let times = Times::of(dir.path(), "").unwrap();
        Journal::create(&stage, times, serde_json::Value::Null).unwrap();
        let full = || Error::Exists {
            path: stage.clone(),
        };
        fs::set_permissions(&stage, PermissionsExt::from_mode(0o700)).unwrap();
        let conversion = Conversion::find(dir.path()).unwrap().unwrap();
        let failed = conversion.broken_off(full());
        assert!(matches!(failed, Error::NotBegun { .. }), "{failed}");
        fs::rename(dir.path().join("aufs"), stage.join("aufs")).unwrap();
        let failed = conversion.broken_off(full());
        assert!(matches!(failed, Error::Removing { .. }), "{failed}");
        let stopped = conversion.broken_off(Error::Interrupted);
        assert!(matches!(stopped, Error::Interrupted), "{stopped}");
    }

    #[test]
    fn behind_a_link_only_what_is_the_drivers_goes() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        for part in ["diff/abc", "layers", "mnt", "precious"] {
            fs::create_dir_all(elsewhere.join(part)).unwrap();
        }
        let (from, to) = (dir.path().join("aufs"), dir.path().join("removed"));
        std::os::unix::fs::symlink(&elsewhere, &from).unwrap();
        set_out(&from, &to, AUFS_SIDE[0].2, (&|| Ok(()), &|| false)).unwrap();
        assert!(from.symlink_metadata().is_err());
        assert!(elsewhere.join("precious").exists());
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1);
        // A kill before the link goes: it is found half done.
        set_out(&from, &to, AUFS_SIDE[0].2, (&|| Ok(()), &|| false)).unwrap();
    }
}
