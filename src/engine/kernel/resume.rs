//! Continues in the pool of an earlier run that was killed, or lost its power.
//!
//! A thin device was recorded as durable when its file system was unmounted, its block device flushed, and the pool
//! committed (see `build`). dm-thin writes its metadata in transactions: however the run ended, a pool comes up in the
//! state of its last commit. So all those devices are there as recorded, and perhaps also some that were begun. Those
//! are deleted here and made again from their parents, which nobody writes to.
//!
//! Before anything is deleted, the pool must prove to be that of the earlier run: by the record, by the transaction id
//! and the devices' ids, and by the UUID of the base device's file system. Until then nothing is changed, and after an
//! error the pool is as it was.

use std::collections::HashSet;
use std::path::Path;

use uuid::Uuid;

use super::base;
use super::claim::{self, Claim};
use super::driver_files::DriverFiles;
use super::error::Error;
use super::place::{PoolPlace, RunPlace};
use super::pool_claim::last_thin_id;
use super::started_run::{StartedRun, claim_of};
use super::take_back::PlannedIds;
use crate::devicemapper::driver_files::DEFAULT_BLOCK_SIZE;
use crate::engine::left_file;
use crate::plan::{DeviceIndex, Plan};
use crate::pool::target::{self, Contents};
use crate::pool::{Names, Pool, What, devices};
use crate::thin::ThinId;

/// Opens the pool and deletes the devices that are not `done`.
pub(super) fn open(
    plan: &Plan,
    place: &RunPlace<'_>,
    done: &HashSet<DeviceIndex>,
) -> Result<StartedRun, Error> {
    place.target.check_left(plan.transaction_before)?;
    let claim = recorded(plan, place)?;
    let kept = kept_ids(plan, place, done)?;
    let names = Names::new(place.home, place.root)?;
    let expect = |path: &Path, held: &Contents| {
        expect_made(plan, held, &kept).map_err(|why| not_as_left(path, why))
    };
    let (pool, held) = match place.pool {
        PoolPlace::ThinPool { path } => {
            let held = target::contents(path)?;
            expect(path, &held)?;
            (Pool::adopt(names, path)?, held)
        }
        PoolPlace::Devices { data, metadata } => {
            devices::expect_unused(data)?;
            devices::expect_unused(metadata)?;
            let held = target::contents_on(metadata)?;
            expect(metadata, &held)?;
            let pool = Pool::reopen(names, data, metadata, DEFAULT_BLOCK_SIZE)?;
            (pool, held)
        }
        PoolPlace::LoopFiles {
            data,
            metadata,
            sizes,
        } => {
            left_file::reopen(data, sizes.data.0)?;
            left_file::reopen(metadata, sizes.metadata.0)?;
            let held = target::contents_on(metadata)?;
            expect(metadata, &held)?;
            let pool = Pool::reopen(names, data, metadata, DEFAULT_BLOCK_SIZE)?;
            (pool, held)
        }
    };
    let base_uuid = expect_base(plan, &pool, claim.as_ref())?;
    if let Some(claim) = &claim {
        // Devices may have other numbers since the last boot.
        claim.write(place.stage)?;
    }
    pool.take_over(&held, &kept, plan.transaction_before)?;
    Ok(StartedRun {
        pool,
        claim,
        base_uuid: Some(base_uuid),
    })
}

fn not_as_left(what: &Path, why: impl Into<String>) -> Error {
    Error::NotAsLeft {
        what: what.to_owned(),
        why: why.into(),
    }
}

/// The earlier run's record, updated for the same target as it is now.
fn recorded(plan: &Plan, place: &RunPlace<'_>) -> Result<Option<Claim>, Error> {
    let Some(now) = claim_of(plan, place.target)? else {
        return Ok(None);
    };
    let path = place.stage.join(claim::FILE);
    let then = Claim::read(place.stage)?.ok_or_else(|| not_as_left(&path, "is missing"))?;
    if !then.is_of(&now) {
        let why = format!("describes {}, not {}", then.describe(), now.describe());
        return Err(not_as_left(&path, why));
    }
    let Some(uuid) = then.base_uuid() else {
        return Err(not_as_left(&path, "names no base device"));
    };
    Ok(Some(now.with_base(uuid)))
}

fn kept_ids(
    plan: &Plan,
    place: &RunPlace<'_>,
    done: &HashSet<DeviceIndex>,
) -> Result<HashSet<ThinId>, Error> {
    let known = |at: &DeviceIndex| plan.devices.get(at.0).map(|device| device.thin_id);
    let kept: Option<HashSet<_>> = done.iter().map(known).collect();
    kept.filter(|kept| kept.contains(&plan.devices[0].thin_id))
        .ok_or_else(|| not_as_left(place.stage, "its record does not match this plan"))
}

/// Checks that the pool only contains what such a run can have left, and everything that was durable.
fn expect_made(plan: &Plan, held: &Contents, kept: &HashSet<ThinId>) -> Result<(), String> {
    let made = PlannedIds {
        transaction_id: plan.transaction_before,
        first: plan.devices[0].thin_id.value(),
        last: last_thin_id(plan),
    };
    made.expect(held, &DriverFiles::default())?;
    let held: HashSet<_> = held.ids.iter().copied().collect();
    match kept.difference(&held).min() {
        None => Ok(()),
        Some(id) => Err(format!(
            "thin device {id} is missing, although it was durable"
        )),
    }
}

/// The UUID of the base device's file system, which must match the record, if there is one.
fn expect_base(plan: &Plan, pool: &Pool, claim: Option<&Claim>) -> Result<Uuid, Error> {
    let id = plan.devices[0].thin_id;
    let thin = pool.activate(id, plan.base_size, What::Base)?;
    let found = base::mkfs::uuid(thin.path(), plan.file_system);
    thin.close()?;
    let path = Path::new("/dev/mapper").join(pool.name());
    let Some(uuid) = found? else {
        return Err(not_as_left(&path, "its base device has no file system"));
    };
    let expected = claim.and_then(Claim::base_uuid);
    if expected.is_some_and(|expected| expected != uuid) {
        let why = "its base device is not the one that was made";
        return Err(not_as_left(&path, why));
    }
    Ok(uuid)
}
