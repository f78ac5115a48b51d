//! The result of a run, and how it is undone if the rest of the conversion fails.

use std::path::PathBuf;

use uuid::Uuid;

use super::claim::Claim;
use super::error::Error;
use super::take_back::take_back;
use crate::units::{Bytes, MetaBlocks};

/// A pool with all devices of a plan.
#[derive(Debug)]
pub(super) struct FinishedPool {
    /// UUID of the base device's file system.
    pub(super) base_uuid: Uuid,
    /// The space that the devices use in the pool's data.
    pub(super) used_data: Bytes,
    /// The space that the pool's metadata uses.
    pub(super) used_metadata: MetaBlocks,
    pub(super) claim: Option<Claim>,
    pub(super) root: PathBuf,
    pub(super) stage: PathBuf,
}

impl FinishedPool {
    /// Removes what was made outside the staging directory, and the record that describes it.
    ///
    /// # Errors
    ///
    /// [`Error::NotTakenBack`]; the record stays.
    pub(super) fn take_back(self) -> Result<(), Error> {
        self.claim
            .map_or(Ok(()), |claim| take_back(&claim, &self.root, &self.stage))
    }
}
