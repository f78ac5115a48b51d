//! A run that has started: its pool, and the record of what it is about to make.

use std::path::Path;

use uuid::Uuid;

use super::claim::{self, Claim};
use super::error::Error;
use crate::plan::Plan;
use crate::pool::Pool;
use crate::pool::target::Target;

/// A pool to work in, with its record.
pub(super) struct StartedRun {
    pub(super) pool: Pool,
    pub(super) claim: Option<Claim>,
    /// UUID of the base device's file system, if an earlier run made it.
    pub(super) base_uuid: Option<Uuid>,
}

/// The record of what is made outside the staging directory. Loop files are inside it, so they have none.
pub(super) fn claim_of(plan: &Plan, target: &Target) -> Result<Option<Claim>, Error> {
    Ok(match target {
        Target::LoopFiles => None,
        Target::Devices { data, metadata } => {
            let look = |path: &Path| {
                let path = std::path::absolute(path).map_err(Error::io(path, "resolve"))?;
                claim::Device::look_at(&path).map_err(Error::io(&path, "identify"))
            };
            Some(Claim::Devices(claim::Devices {
                data: look(data)?,
                metadata: look(metadata)?,
                last_thin_id: super::pool_claim::last_thin_id(plan),
                boot_id: claim::boot_id().map_err(Error::io(metadata, "read the boot id"))?,
                base_uuid: None,
            }))
        }
        Target::ThinPool { path } => Some(Claim::ThinPool(super::pool_claim::claim(path, plan)?)),
    })
}
