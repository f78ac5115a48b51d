//! What an earlier run on the same root left when it was killed: in the kernel, and in a pool of the operator.

use std::path::{Path, PathBuf};

use super::built::take_back;
use super::claim::Claim;
use super::leftovers::{self, Leftovers};
use super::{Error, Names};

/// What a killed run left outside of its staging directory. The lock on the root must be held, or what a living run has made is
/// taken for it.
#[derive(Debug)]
pub struct Previous {
    root: PathBuf,
    leftovers: Leftovers,
    claim: Option<Claim>,
}

impl Previous {
    /// Looks for it; changes nothing. `stage` is the staging directory that is there, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Leftovers`], [`Error::Claim`].
    pub fn find(root: &Path, stage: Option<&Path>) -> Result<Self, Error> {
        let prefix = Names::uuid_prefix_of(root)?;
        Ok(Self {
            root: root.to_owned(),
            leftovers: leftovers::find(&prefix, root)?,
            claim: stage.map_or(Ok(None), Claim::read)?,
        })
    }

    /// A line for each thing, in the order in which it goes.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = self.leftovers.describe();
        lines.extend(self.claim.as_ref().map(Claim::describe));
        lines
    }

    /// Removes all of it: mounts, devices, loop devices, then what was written to a pool of the operator.
    ///
    /// # Errors
    ///
    /// [`Error::Leftovers`] with what stays and the commands that remove it, [`Error::ClaimOutdated`] when the pool is not as the
    /// run left it.
    pub fn remove(self) -> Result<(), Error> {
        self.leftovers.remove()?;
        self.claim
            .map_or(Ok(()), |claim| take_back(&claim, &self.root))
    }
}
