//! A conversion that was begun, as a later command takes it over: to continue the move, to go back, or to remove the
//! aufs side.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::aufs_changes::AufsChanges;
use super::aufs_side::Depth;
use super::changes::Changes;
use super::config::DRIVER;
use super::error::Error;
use super::journal::{Journal, JournalState};
use super::leftover::Leftover;
use super::moves::{Move, Roots};
use super::record::{Record, SwitchPlan};
use super::regular_files::read_regular;
use super::removal::REMOVED;
use super::remove::{expect_unmounted_result, remove_stage};
use super::state::State;
use super::switch::{self, ExpectAlone, OnDaemonFailure, SwitchUndo, not_alone};
use super::verification::VerificationRecord;
use super::whereabouts::{Whereabouts, in_the_way};
use super::{originals, others, second_place, size};
use crate::chain::Chain;
use crate::daemon::Host;
use crate::daemon::first_start::check_recorded;
use crate::docker::{CacheId, DamageRecord, config_with_driver};
use crate::durable::sync_file_system;
use crate::removal::Remainder;
use crate::units::Bytes;
use crate::verify::BranchNow;

/// The directories and the file that Docker's devicemapper driver requires.
const IN_PLACE: [&str; 5] = [
    "devicemapper",
    "devicemapper/metadata",
    "devicemapper/metadata/base",
    "image/devicemapper",
    "image/devicemapper/layerdb",
];

/// A conversion that was begun in a root.
#[derive(Debug)]
pub struct Conversion {
    pub(super) root: PathBuf,
    pub(super) stage: PathBuf,
    /// Where the containers' configs are staged.
    configs: PathBuf,
    pub(super) story: JournalState,
}

impl Conversion {
    /// Takes over the conversion in `root`; `None` if none was begun. [`RootLock`](super::stage::RootLock) must be held
    /// before anything is changed.
    ///
    /// # Errors
    ///
    /// As [`Leftover::look_for`].
    pub fn find(root: &Path) -> Result<Option<Self>, Error> {
        Ok(match Leftover::look_for(root)? {
            Leftover::Conversion(stage, story) => Some(Self {
                root: root.to_owned(),
                configs: second_place::configs(root, &stage, story.beside.as_ref()),
                stage,
                story: *story,
            }),
            Leftover::None | Leftover::Stage(_) => None,
        })
    }

    /// The contents of its journal.
    pub fn story(&self) -> &JournalState {
        &self.story
    }

    /// The Docker root of the conversion.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its staging directory.
    pub fn stage(&self) -> &Path {
        &self.stage
    }

    fn ground(&self) -> Roots<'_> {
        Roots {
            root: &self.root,
            stage: &self.stage,
            configs: &self.configs,
        }
    }

    /// What Docker did on the devicemapper side since it was staged. If a move, forward or back, was interrupted, parts
    /// may have been in place meanwhile, and Docker may have found them.
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

    /// Checks that the places for the rest of an interrupted move are free: Docker creates what it does not find.
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

    /// The changes to the aufs side since it was converted; `None` if its state was not recorded, or nothing is in
    /// place.
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

    /// A digest of when each entry of the converted branches was last changed; `None` if they are unknown or gone.
    pub fn aufs_times(&self) -> Option<String> {
        let switching = self.story.switching.as_ref();
        let is_there = self.root.join("aufs/diff").is_dir();
        let aufs = switching.and_then(|one| one.aufs.as_ref());
        aufs.filter(|_| is_there).map(|aufs| aufs.times(&self.root))
    }

    /// When the result was moved into place, in seconds since 1970.
    pub fn switched_at(&self) -> Option<i64> {
        i64::try_from(self.story.switched_at?).ok()
    }

    /// The value of [`aufs_times`](Self::aufs_times) when the root was converted, if it was recorded.
    pub fn aufs_times_then(&self) -> Option<&str> {
        let switching = self.story.switching.as_ref()?;
        switching.aufs.as_ref()?.times_then()
    }

    /// The recorded value of [`aufs_times`](Self::aufs_times) when the aufs side was last known to be right: when a
    /// full verification found nothing against it, or when it was converted.
    pub fn aufs_times_known(&self) -> Option<&str> {
        match &self.story.verified.of_aufs {
            Some(verified) => verified.aufs_times.as_deref(),
            None => self.aufs_times_then(),
        }
    }

    /// When the conversion wrote the driver's metadata file of a layer's device, in seconds since 1970.
    pub fn note_written_at(&self, id: &CacheId) -> Option<i64> {
        let switching = self.story.switching.as_ref()?;
        switching.written.note_written_at(id.as_str())
    }

    /// The state of a branch compared with the conversion.
    pub fn branch_now(&self, id: &CacheId) -> BranchNow {
        let switching = self.story.switching.as_ref();
        match switching.and_then(|one| one.aufs.as_ref()) {
            Some(aufs) => aufs.branch(&self.root, id.as_str()),
            None => BranchNow::Unknown,
        }
    }

    /// What was damaged when the root was converted, and what became of it.
    pub fn damage_record(&self) -> Option<&DamageRecord> {
        let switching = self.story.switching.as_ref();
        Some(switching?.aufs.as_ref()?.damage())
    }

    /// Whether a path in the image store beside the devices, relative to the store, has what was copied there.
    pub fn is_copied(&self, inner: &Path) -> bool {
        let switching = self.story.switching.as_ref();
        let aufs = switching.and_then(|one| one.aufs.as_ref());
        let copy = self.root.join("image/devicemapper");
        aufs.is_some_and(|aufs| aufs.is_copied(&copy, inner))
    }

    /// Whether something beside the converted branches, given by its path, is as it was when the root was converted, or
    /// was left out then.
    pub fn is_as_it_was(&self, path: &Path) -> bool {
        let switching = self.story.switching.as_ref();
        let aufs = switching.and_then(|one| one.aufs.as_ref());
        let inner = path.strip_prefix(&self.root).unwrap_or(path);
        aufs.is_some_and(|aufs| aufs.is_as_it_was(&self.root, &inner.to_string_lossy()))
    }

    /// Records digests of devices that were found to match aufs: of their entries, and of their files' bytes.
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

    /// Damage to the conversion's own files, as one text each: Docker's small files that differ from what was written
    /// although nobody wrote them since, and the originals that a rollback restores. Empty until everything is in
    /// place.
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

    /// Containers of a converted root that were lost and not removed by Docker, as one text each: a rollback has no place
    /// for their configs, and the last copies would go with the staging directory.
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

    /// Damaged or missing originals that a rollback would restore. For an interrupted move, forward or back, these are
    /// the ones that it has yet to restore.
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
                    "{}: is not the original of {to}, which rollback restores",
                    path.display()
                ));
            }
        }
        Ok(damaged)
    }

    /// Checks that the devicemapper side is where the journal says that it replaces the aufs side.
    ///
    /// # Errors
    ///
    /// [`Error::NotInPlace`].
    pub fn expect_in_place(&self) -> Result<(), Error> {
        let is_staged =
            |one: &SwitchPlan| one.moves.iter().any(|step| step.is_staged(self.ground()));
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

    /// Checks that the journal's record of `daemon.json` is what a conversion for this host writes there, and makes
    /// later steps use the file's present location. `options` are those by which Docker finds the requested pool.
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

    /// Leaves `daemon.json` as it is, whatever else is moved.
    pub fn leave_daemon_file(&mut self) {
        if let Some(switching) = &mut self.story.switching {
            switching.daemon = None;
        }
    }

    /// Moves into place what an interrupted run had not moved yet.
    ///
    /// # Errors
    ///
    /// As for [`Stage::switch`](super::stage::Stage::switch). With [`Error::NotAlone`], everything stays where it is.
    /// With [`Error::StuckHalfWay`], what was moved stays in place, because Docker has worked there: nobody would look
    /// for that work in the staging directory.
    pub fn finish_switch(&self, alone: ExpectAlone<'_>) -> Result<(), Error> {
        let Some(switching) = &self.story.switching else {
            return Ok(());
        };
        alone().map_err(not_alone(&self.root, "resume"))?;
        let is_used = !self.changes()?.is_empty();
        let journal = Journal::reopen(&self.stage)?;
        if !is_used {
            return switch::forward(switching, self.ground(), &journal, OnDaemonFailure::Stay);
        }
        let moved = switch::advance(switching, self.ground(), &journal, OnDaemonFailure::Stay);
        moved.map_err(|cause| Error::StuckHalfWay {
            root: self.root.clone(),
            cause: Box::new(cause),
        })
    }

    /// Records a verification of what is in place, and its result.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn note_verified(&self, verified: VerificationRecord) -> Result<(), Error> {
        Journal::reopen(&self.stage)?.append(&Record::Verified(verified))
    }

    /// Moves everything back. The rest of the conversion is in the staging directory afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::NotAlone`], [`Error::NotBegun`]: nothing has been changed. [`Error::TakingBack`]: this function can be
    /// called again.
    pub fn take_back(&self, alone: ExpectAlone<'_>) -> Result<SwitchUndo, Error> {
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
            return Ok(SwitchUndo::default());
        };
        let going_back = Record::RollingBack {
            aufs_times: self.aufs_times(),
        };
        Journal::reopen(&self.stage)
            .and_then(|journal| journal.append(&going_back))
            .map_err(|cause| match self.story.state {
                // An earlier run may have moved something.
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
    /// [`Error::NotRemoved`] and [`Error::TakingBack`]: this function can be called again.
    pub fn remove(self) -> Result<(), Error> {
        self.expect_originals_back()?;
        remove_stage(&self.stage).map_err(|cause| match cause {
            // Everything is back, and what is left is in nobody's way.
            Error::NotRemoved { .. } => cause,
            cause => Error::TakingBack {
                root: self.root.clone(),
                cause: Box::new(cause),
            },
        })?;
        self.story.begun.root.put_back(&self.root);
        Ok(())
    }

    /// Checks that no original is the only copy, whatever the journal says was moved: an only copy stays.
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

    /// Bytes that removing the staging directory will free, including everything that was moved back into it.
    pub fn bytes_staged(&self) -> Bytes {
        size::of([&*self.stage])
    }

    /// Checks that nothing that a rollback moves or removes contains a mount.
    ///
    /// # Errors
    ///
    /// [`Error::Mounted`].
    pub fn expect_unmounted(&self) -> Result<(), Error> {
        expect_unmounted_result(&self.root)
    }

    /// Checks that no attribute flag forbids a step of the way back, and that no step loses a config.
    ///
    /// # Errors
    ///
    /// [`Error::Unchangeable`], [`Error::OnlyOriginal`]; nothing has been changed.
    pub fn expect_way_back(&self) -> Result<(), Error> {
        let mut flagged = Remainder::default();
        for step in self.story.switching.iter().flat_map(|one| &one.moves) {
            step.expect_way_back(self.ground(), &mut flagged)?;
        }
        if flagged.is_empty() {
            return Ok(());
        }
        Err(Error::Unchangeable { kept: flagged })
    }

    /// Checks that what `rollback` removes contains nobody else's files.
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

    /// Checks that what is removed with the journal contains nobody else's files.
    ///
    /// # Errors
    ///
    /// [`Error::OthersFiles`]; nothing has been changed.
    pub fn expect_stage_is_own(&self, words: &'static str) -> Result<(), Error> {
        let files = others::in_stage(&self.root, (&self.stage, &self.configs), Some(&self.story))?;
        others::expect_none(&self.root, files, words)
    }

    /// Checks the same once everything is moved back.
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

    /// Makes durable what stays when the aufs side goes: whoever copied the root here may not have synced it, and a
    /// power cut would lose it together with what is removed. This may take minutes, so all checks come after it.
    ///
    /// # Errors
    ///
    /// [`Error::NotBegun`], or [`Error::Removing`] of a removal that goes on.
    pub fn sync_what_stays(&self) -> Result<(), Error> {
        self.sync_both_sides()
            .map_err(|cause| self.broken_off(cause))
    }

    /// Makes the aufs side that a rollback has restored durable before the other side is removed.
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

    /// Configs of containers that differ from what was converted although their containers exist, as one text each:
    /// somebody removed or damaged them while the way back was interrupted. Configs that aufs' Docker may have written
    /// meanwhile are not included.
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
                None => "is missing, but existed when the root was converted",
                Some(bytes) if is_config_of_aufs(&bytes) => continue,
                Some(_) => {
                    "is no longer the config of an aufs container, as it was when the root was converted"
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
}

/// Whether a conversion would switch this config.
fn is_config_of_aufs(bytes: &[u8]) -> bool {
    matches!(config_with_driver(bytes, DRIVER), Ok(Some(_)))
}

/// Whether there is a config of a container that does not use aufs.
fn names_another_driver(path: &Path) -> Result<bool, Error> {
    let bytes = read_regular(path)?;
    Ok(bytes.is_some_and(|bytes| matches!(config_with_driver(&bytes, DRIVER), Ok(None))))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::commit::times::Times;
    use crate::staging::STAGE_NAME;

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
}
