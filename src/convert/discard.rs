//! The end of a conversion: the aufs side is removed.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::Error;
use super::held::Held;
use crate::commit::{self, Conversion, State};
use crate::docker::Survey;
use crate::docker::daemon::Host;
use crate::privileges::{self, Purpose};

/// A conversion whose aufs side may be removed. Docker is kept out as long as it lives.
#[derive(Debug)]
pub struct Discard {
    held: Held,
    conversion: Conversion,
}

/// What was removed. The field names are part of the `--json` interface.
#[derive(Clone, Debug, Serialize)]
pub struct Discarded {
    /// The root.
    pub root: PathBuf,
    /// What the operator should know.
    pub notices: Vec<String>,
}

impl Discard {
    /// Makes sure that the aufs side is not needed any more.
    ///
    /// # Errors
    ///
    /// [`Error::NotConverted`], [`Error::NotVerified`], [`Error::AufsInUse`], or that Docker runs.
    pub fn open(root: &Path, host: &Host) -> Result<Self, Error> {
        // An interrupted removal has left no root of aufs to look at.
        let state = Conversion::find(root)?.map(|conversion| conversion.story().state);
        let held = if state == Some(State::Committing) {
            Held::without_aufs(root, host)?
        } else {
            Held::open(root, host)?
        };
        let path = held.path().to_owned();
        let conversion = Conversion::find(&path)?;
        let Some(conversion) = conversion else {
            return Err(Error::NotConverted { path });
        };
        match conversion.story().state {
            State::Committing => {}
            State::Converted => {
                privileges::check(host, &path, Purpose::Write)?;
                expect_unneeded(&held, &conversion)?;
            }
            State::Writing => return Err(Error::NotConverted { path }),
            state => return Err(commit::Error::Unfinished { path, state }.into()),
        }
        Ok(Self { held, conversion })
    }

    /// The root.
    pub fn root(&self) -> &Path {
        self.held.path()
    }

    /// Removes the aufs side.
    ///
    /// # Errors
    ///
    /// [`Error::Commit`]; what is left is removed when it is done again.
    pub fn execute(mut self) -> Result<Discarded, Error> {
        let done = Discarded {
            root: self.root().to_owned(),
            notices: std::mem::take(&mut self.held.notices),
        };
        self.conversion.remove_aufs_side()?;
        self.held.release();
        Ok(done)
    }
}

fn expect_unneeded(held: &Held, conversion: &Conversion) -> Result<(), Error> {
    let path = held.path().to_owned();
    if conversion.story().verified.full.is_none() {
        return Err(Error::NotVerified { path });
    }
    let Some(root) = held.root() else {
        return Ok(());
    };
    let survey = Survey::read(root);
    let containers: Vec<String> = survey
        .containers()
        .filter(|(_, container)| container.is_aufs())
        .map(|(_, container)| container.name.clone())
        .collect();
    if containers.is_empty() {
        Ok(())
    } else {
        Err(Error::AufsInUse { path, containers })
    }
}
