//! What an earlier run on the same root left when it was killed: in the kernel, and in a pool of the operator.

use std::path::{Path, PathBuf};

use super::claim::Claim;
use super::leftovers::{self, Leftovers};
use super::take_back::{expect_ours, take_back};
use super::{Error, Names};

/// What a killed run left outside of its staging directory. The lock on the root must be held, or what a living run has made is
/// taken for it.
#[derive(Debug)]
pub struct Previous {
    root: PathBuf,
    leftovers: Leftovers,
    /// The record, and the staging directory that has it.
    claim: Option<(Claim, PathBuf)>,
}

impl Previous {
    /// Looks for it; changes nothing. `stage` is the staging directory that is there, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Leftovers`], [`Error::Claim`].
    pub fn find(root: &Path, stage: Option<&Path>) -> Result<Self, Error> {
        let prefix = Names::uuid_prefix_of(root)?;
        let claim = match stage {
            Some(stage) => Claim::read(stage)?.map(|claim| (claim, stage.to_owned())),
            None => None,
        };
        Ok(Self {
            root: root.to_owned(),
            leftovers: leftovers::find(&prefix, root)?,
            claim,
        })
    }

    /// A line for each thing, in the order in which it goes.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = self.leftovers.describe();
        lines.extend(self.claim.as_ref().map(|(claim, _)| claim.describe()));
        lines
    }

    /// Leaves the record out of account, so that only what is active is described and removed: what a pool holds stays, for a
    /// run that goes on with it.
    #[must_use]
    pub fn but_its_content(mut self) -> Self {
        self.claim = None;
        self
    }

    /// Takes down what is active: mounts, devices, loop devices. Then it makes sure that what was written to a pool of the
    /// operator can be taken back, and leaves it there.
    ///
    /// # Errors
    ///
    /// [`Error::Leftovers`] with what stays and the commands that remove it; [`Error::NotTakenBack`].
    pub fn take_down(&self) -> Result<(), Error> {
        self.leftovers.remove()?;
        self.claim.as_ref().map_or(Ok(()), |(claim, stage)| {
            expect_ours(claim, &self.root, stage)
        })
    }

    /// Removes all of it: mounts, devices, loop devices, then what was written to a pool of the operator, and the record.
    ///
    /// # Errors
    ///
    /// [`Error::Leftovers`] with what stays and the commands that remove it, [`Error::NotTakenBack`] when the pool is not as
    /// the run left it. The staging directory must stay then: it has the record.
    pub fn remove(self) -> Result<(), Error> {
        self.leftovers.remove()?;
        self.claim.map_or(Ok(()), |(claim, stage)| {
            take_back(&claim, &self.root, &stage)
        })
    }
}
