//! The end of a conversion: the removal of the aufs side.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::conditions::{expect_rest_unneeded, expect_unchanged, expect_whole_copy, is_as_proven};
use super::dead_end::dead_end;
use super::error::Error;
use super::left::left_by_conversion;
use super::locked_root::LockedRoot;
use super::put_back::put_aufs_side_back;
use super::read_only::expect_writable;
use super::request::MayLose;
use crate::commit::{self, Changes, Conversion, State, VerificationRecord};
use crate::daemon::Host;
use crate::docker::{ContainerId, DataDir};
use crate::privileges::{self, Purpose};
use crate::progress::Cancel;
use crate::tree::shown;
use crate::units::Bytes;
use crate::verify::LayerDamage;

/// A conversion whose aufs side may be removed. Keeps Docker out while it exists.
#[derive(Debug)]
pub struct Commit {
    held: LockedRoot,
    conversion: Conversion,
    may_lose: MayLose,
    cancel: Cancel,
}

/// What was removed. The field names are part of the `--json` interface.
#[derive(Clone, Debug, Serialize)]
pub struct CommitSummary {
    /// The root.
    pub root: PathBuf,
    /// Bytes freed on disk.
    pub freed: Bytes,
    /// The verification that justified the removal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<VerificationRecord>,
    /// What the operator should know.
    pub notices: Vec<String>,
}

impl Commit {
    /// Checks that the aufs side is no longer needed. `cancel` stops the check and the removal.
    ///
    /// # Errors
    ///
    /// [`Error::NotConverted`], [`Error::NotVerified`], [`Error::AufsInUse`], [`Error::Interrupted`], or Docker is
    /// running.
    pub fn open(
        root: &Path,
        host: &Host,
        may_lose: MayLose,
        cancel: &Cancel,
    ) -> Result<Self, Error> {
        expect_writable(root)?;
        // While nothing is gone, the same must hold as before the first step: Docker or a disk may have changed
        // something since.
        put_aufs_side_back((root, "commit"), host, cancel)?;
        let found = Conversion::find(root)?;
        let held = match found.as_ref().map(|found| found.story().state) {
            // An interrupted removal leaves no aufs root to check.
            Some(State::Committing) => LockedRoot::without_aufs(root, host),
            // The conditions report what is missing from it.
            Some(State::Converted) => LockedRoot::for_reading(root, host),
            _ => LockedRoot::open(root, host),
        };
        let held = held.map_err(|error| mounts_first(root, dead_end(root).unwrap_or(error)))?;
        let path = held.path().to_owned();
        let conversion = Conversion::find(&path)?;
        let Some(conversion) = conversion else {
            return Err(Error::NotConverted { path });
        };
        if let State::Committing | State::Converted = conversion.story().state {
            conversion.expect_removable()?;
            conversion.expect_stage_is_own("commit")?;
        }
        match conversion.story().state {
            State::Committing => {
                conversion.expect_in_place()?;
                expect_own_rest(&conversion, may_lose)?;
                left_by_conversion(&path, Some(&conversion))?.expect_pool()?;
                expect_rest_unneeded(host, (&path, &conversion), may_lose, cancel)?;
            }
            State::Converted => {
                privileges::check(host, &path, Purpose::Write)?;
                expect_unneeded(&held, &conversion)?;
                left_by_conversion(&path, Some(&conversion))?.expect_pool()?;
                expect_whole_copy(host, (&path, &conversion), may_lose, cancel)?;
            }
            State::Writing => return Err(Error::NotConverted { path }),
            state => return Err(commit::Error::Unfinished { path, state }.into()),
        }
        Ok(Self {
            held,
            conversion,
            may_lose,
            cancel: cancel.clone(),
        })
    }

    /// Checks that everything is still as it was: the confirmation prompt may have waited for days.
    fn expect_as_it_was(&self) -> Result<(), Error> {
        self.conversion.expect_in_place()?;
        if self.conversion.story().state != State::Converted {
            return expect_own_rest(&self.conversion, self.may_lose);
        }
        let path = self.held.path();
        self.conversion.expect_stage_is_own("commit")?;
        expect_unneeded(&self.held, &self.conversion)?;
        expect_unchanged(path, &self.conversion, self.may_lose)
    }

    /// The verification that justifies the removal.
    pub fn verified(&self) -> Option<&VerificationRecord> {
        self.conversion.story().verified.decisive()
    }

    /// Layers that already differed from what Docker had unpacked before they were converted.
    pub fn damaged(&self) -> &[LayerDamage] {
        &self.conversion.story().verified.damaged
    }

    /// What was removed from the devicemapper side since the conversion, and is now about to go from the aufs side too.
    /// Docker may have removed it, or a disk may have lost it.
    ///
    /// # Errors
    ///
    /// [`Error::Commit`]: the files cannot be read.
    pub fn removed_since(&self) -> Result<Changes, Error> {
        Ok(self.conversion.changes()?.removed())
    }

    /// The location of `aufs`, if it is emptied but kept because it is a link or a mount point.
    pub fn emptied(&self) -> Option<PathBuf> {
        let aufs = self.root().join("aufs");
        let waits_there = self.conversion.story().removal.beside.is_some();
        let stays = waits_there || self.conversion.aufs_stays();
        stays.then(|| aufs.canonicalize().unwrap_or(aufs))
    }

    /// Bytes on disk that the removal will free.
    pub fn bytes(&self) -> Bytes {
        self.conversion.bytes_of_aufs()
    }

    /// The root.
    pub fn root(&self) -> &Path {
        self.held.path()
    }

    /// Removes the aufs side.
    ///
    /// # Errors
    ///
    /// [`Error::Commit`], with [`commit::Error::Interrupted`] if it was told to stop; running it again removes the
    /// rest.
    pub fn execute(mut self) -> Result<CommitSummary, Error> {
        let mut done = CommitSummary {
            root: self.root().to_owned(),
            // Either all of it goes, or this function fails.
            freed: self.bytes(),
            verified: self.verified().cloned().map(VerificationRecord::told),
            notices: std::mem::take(&mut self.held.notices),
        };
        if let Some(path) = self.conversion.out_of_sight() {
            done.notices.push(format!(
                "{}: cannot be seen, so what is left there is not removed; it is on a disk or behind a link that is \
                 missing. Next: remove that directory there",
                shown(&path)
            ));
        }
        self.conversion.sync_what_stays()?;
        commit::pass_the_second(self.root());
        let untouched = self.conversion.untouched()?;
        self.expect_as_it_was()?;
        let (held, cancel, conversion) = (&self.held, &self.cancel, &self.conversion);
        let is_proven = || is_as_proven(held.path(), conversion, self.may_lose);
        conversion.remove_aufs_side((&untouched, &is_proven), &|| held.expect_alone(), &|| {
            cancel.is_set()
        })?;
        self.held.release();
        Ok(done)
    }
}

/// Checks that only the rest of the aufs side that was checked before is removed, and nothing that appeared there
/// since.
fn expect_own_rest(conversion: &Conversion, may_lose: MayLose) -> Result<(), Error> {
    conversion.expect_aufs_reached()?;
    conversion.expect_not_again()?;
    if !may_lose.aufs_changes {
        conversion.expect_rest_is_known()?;
    }
    Ok(())
}

/// Prefers the error about a mount: a mount over part of the aufs side can make that part look gone.
fn mounts_first(root: &Path, error: Error) -> Error {
    if !matches!(error, Error::Docker(_)) {
        return error;
    }
    match Conversion::find(root) {
        Ok(Some(conversion)) => match conversion.expect_removable() {
            Err(mounted @ commit::Error::Mounted { .. }) => mounted.into(),
            _ => error,
        },
        _ => error,
    }
}

/// Checks that no container needs aufs, except for those that the conversion left out, which are dropped by their own
/// option.
fn expect_unneeded(held: &LockedRoot, conversion: &Conversion) -> Result<(), Error> {
    let path = held.path().to_owned();
    // What is listed there is dropped by its own option only.
    let record = conversion.damage_record();
    let record = record.filter(|record| !record.left_out.is_empty());
    let is_left_out =
        |id: &ContainerId| record.is_some_and(|record| record.containers.contains(id.as_str()));
    let containers = held.data_dir().map(DataDir::containers_of_aufs);
    let containers = containers.unwrap_or_default().into_iter();
    let containers: Vec<_> = containers
        .filter(|(id, _)| !is_left_out(id))
        .map(|(_, name)| name)
        .collect();
    if containers.is_empty() {
        Ok(())
    } else {
        Err(Error::AufsInUse { path, containers })
    }
}
