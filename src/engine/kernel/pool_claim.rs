//! The record of what a run is about to make in the operator's pool.

use std::path::Path;

use super::claim::{self, ThinPool};
use crate::plan::Plan;
use crate::pool::DeviceError;
use crate::pool::target::{device_mapper_with_pools, find};

/// What a run is about to make in a suitable pool.
pub(super) fn claim(path: &Path, plan: &Plan) -> Result<ThinPool, DeviceError> {
    let found = find(&device_mapper_with_pools()?, path)?;
    Ok(ThinPool {
        name: found.name,
        uuid: Some(found.uuid).filter(|uuid| !uuid.is_empty()),
        transaction_id: plan.transaction_before,
        first_thin_id: 1,
        last_thin_id: last_thin_id(plan),
        boot_id: claim::boot_id().map_err(DeviceError::io(path, "read the boot id"))?,
        base_uuid: None,
    })
}

/// The last thin id of a plan. Its devices are numbered from 1 without a gap.
pub(super) fn last_thin_id(plan: &Plan) -> u32 {
    let last = plan.devices.last().expect("a plan has a base device");
    last.thin_id.value()
}
