//! What an earlier run on the same root left when it was killed: in the kernel, and in the operator's pool.

use std::io;
use std::path::{Path, PathBuf};

use super::claim::{self, Claim};
use super::error::Error;
use super::other_root;
use super::requested_target::RequestedTarget;
use super::still_there::{expect_content, expect_pool};
use super::take_back::{expect_ours, not_taken_back, take_back};
use crate::pool::Names;
use crate::pool::leftovers::{self, Leftovers};
use crate::tree::shown;

/// The staging directory of an earlier run, and what that run was to make outside of it, according to its journal.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The staging directory.
    pub stage: &'a Path,
    /// The run's target; `None` for a conversion that makes nothing outside of its root.
    pub ordered: Option<&'a RequestedTarget>,
}

/// What a killed run left outside of its staging directory. The caller must hold the lock on the root; otherwise what a
/// live run made is taken as left.
#[derive(Debug)]
pub struct Previous {
    root: PathBuf,
    leftovers: Leftovers,
    /// The record and the staging directory that contains it.
    claim: Option<(Claim, PathBuf)>,
}

impl Previous {
    /// Finds what was left; changes nothing. `record` describes the existing staging directory, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Leftovers`], [`Error::Claim`]; [`Error::NotOrdered`] for a record that contradicts the journal.
    pub fn find(root: &Path, record: Option<Record<'_>>) -> Result<Self, Error> {
        let prefix = Names::uuid_prefix_of(root)?;
        let claim = match record {
            Some(record) => read(record)?.map(|claim| (claim, record.stage.to_owned())),
            None => None,
        };
        Ok(Self {
            root: root.to_owned(),
            leftovers: leftovers::find(&prefix, root)?,
            claim,
        })
    }

    /// One line for each item, in the order of removal.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = self.leftovers.describe();
        lines.extend(self.claim.as_ref().map(|(claim, _)| claim.describe()));
        lines
    }

    /// Ignores the record, so that only what is active is described and removed. The content of a pool stays, for a run
    /// that continues with it.
    #[must_use]
    pub fn but_its_content(mut self) -> Self {
        self.claim = None;
        self
    }

    /// Removes what is active: mounts, devices, loop devices. Then checks that what was written to the operator's pool
    /// can be undone, but leaves it there.
    ///
    /// # Errors
    ///
    /// [`Error::Leftovers`] with what is left and the commands that remove it; [`Error::NotTakenBack`].
    pub fn take_down(&self) -> Result<(), Error> {
        self.leftovers.remove()?;
        self.claim.as_ref().map_or(Ok(()), |(claim, stage)| {
            expect_ours(claim, &self.root, stage)
        })
    }

    /// Checks that a finished pool of the operator is still the same one; for a command that reads it.
    ///
    /// # Errors
    ///
    /// [`Error::NotOurs`].
    pub fn expect_pool(&self) -> Result<(), Error> {
        self.claim
            .as_ref()
            .map_or(Ok(()), |(claim, _)| expect_pool(claim))
    }

    /// The same check before what was written to the pool is undone, while all of it must still be there.
    ///
    /// # Errors
    ///
    /// [`Error::NotTakenBack`].
    pub fn expect_content(&self) -> Result<(), Error> {
        self.claim.as_ref().map_or(Ok(()), |(claim, stage)| {
            expect_content(claim).map_err(not_taken_back(claim, stage))
        })
    }

    /// Removes everything: mounts, devices, loop devices, then what was written to the operator's pool, and the record.
    ///
    /// # Errors
    ///
    /// [`Error::Leftovers`] with what is left and the commands that remove it, [`Error::NotTakenBack`] if the pool is
    /// not as the run left it. In that case the staging directory must stay, because it contains the record.
    pub fn remove(self) -> Result<(), Error> {
        self.leftovers.remove()?;
        self.claim.map_or(Ok(()), |(claim, stage)| {
            take_back(&claim, &self.root, &stage)
        })
    }
}

/// Reads the record, which must describe what was requested.
fn read(record: Record<'_>) -> Result<Option<Claim>, Error> {
    let Some(claim) = Claim::read(record.stage)? else {
        return Ok(None);
    };
    let path = record.stage.join(claim::FILE);
    let why = match record.ordered {
        None => Some("the target of the conversion was loop files".to_owned()),
        Some(ordered) => match ordered.doubt(&claim) {
            None => foreign(&claim).map_err(Error::io(&path, "identify the devices in it"))?,
            why => why,
        },
    };
    match why {
        None => Ok(Some(claim)),
        Some(why) => Err(Error::NotOrdered {
            what: claim.describe(),
            record: path,
            why,
        }),
    }
}

fn foreign(claim: &Claim) -> io::Result<Option<String>> {
    let found = other_root::of_claim(claim)?;
    Ok(found.map(|(device, root)| {
        format!(
            "{} is a loop file of the Docker root {}",
            shown(device),
            shown(&root)
        )
    }))
}
