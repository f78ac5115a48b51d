//! The start of a run: checks the target again, writes the record of what is about to be made, and opens the pool.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::claim::Claim;
use super::error::Error;
use super::place::{PoolPlace, RunPlace};
use super::resume;
use super::started_run::{StartedRun, claim_of};
use crate::devicemapper::driver_files::DEFAULT_BLOCK_SIZE;
use crate::durable::{remove_if_any, sync_directory_of};
use crate::engine::checkpoint::Checkpoints;
use crate::plan::Plan;
use crate::pool::target::Target;
use crate::pool::{Names, Pool};
use crate::units::Bytes;

/// Creates or opens the pool. After an error, everything is as it was.
pub(super) fn begin(
    plan: &Plan,
    place: &RunPlace<'_>,
    checkpoints: &Checkpoints<'_>,
) -> Result<StartedRun, Error> {
    if let Some(done) = checkpoints.done.filter(|done| !done.is_empty()) {
        let opened = resume::open(plan, place, done);
        return opened.map_err(|error| Error::NotResumed(Box::new(error)));
    }
    expect_unchanged(plan, place.target)?;
    if let (PoolPlace::LoopFiles { data, metadata, .. }, true) =
        (place.pool, checkpoints.done.is_some())
    {
        remove_if_any(data)?;
        remove_if_any(metadata)?;
    }
    let claim = claim_of(plan, place.target)?;
    if let Some(claim) = &claim {
        claim.write(place.stage)?;
    }
    match open_pool(place) {
        Ok(pool) => Ok(StartedRun {
            pool,
            claim,
            base_uuid: None,
        }),
        Err(error) => {
            forget_claim(place.stage, &error);
            Err(error)
        }
    }
}

/// Removes the record of a failed run, unless the run left something that the record describes.
pub(super) fn forget_claim(stage: &Path, failed: &Error) {
    if !failed.leaves_something()
        && let Err(error) = Claim::remove(stage)
    {
        log::warn!("{error}: the next run will find nothing to undo");
    }
}

/// The directory for mount points: a new one, or that of an earlier run, emptied.
pub(super) fn mount_points(stage: &Path, checkpoints: &Checkpoints<'_>) -> Result<PathBuf, Error> {
    let mounts = stage.join("mnt");
    match DirBuilder::new().mode(0o700).create(&mounts) {
        Err(error)
            if error.kind() == io::ErrorKind::AlreadyExists && checkpoints.done.is_some() => {}
        created => {
            created.map_err(Error::io(&mounts, "create"))?;
            return Ok(mounts);
        }
    }
    for entry in fs::read_dir(&mounts).map_err(Error::io(&mounts, "read"))? {
        let path = entry.map_err(Error::io(&mounts, "read"))?.path();
        // The directory must be empty; otherwise something is mounted there.
        fs::remove_dir(&path).map_err(Error::io(&path, "remove"))?;
    }
    Ok(mounts)
}

/// Checks the target again, because much time may have passed since the first check.
fn expect_unchanged(plan: &Plan, target: &Target) -> Result<(), Error> {
    let now = target.check()?.transaction_id;
    match target {
        Target::ThinPool { path } if now != plan.transaction_before => Err(Error::PoolChanged {
            pool: path.clone(),
            planned: plan.transaction_before,
            now,
        }),
        _ => Ok(()),
    }
}

fn open_pool(place: &RunPlace<'_>) -> Result<Pool, Error> {
    let names = Names::new(place.home, place.root)?;
    Ok(match place.pool {
        PoolPlace::ThinPool { path } => Pool::adopt(names, path)?,
        PoolPlace::Devices { data, metadata } => {
            Pool::create(names, data, metadata, DEFAULT_BLOCK_SIZE)?
        }
        PoolPlace::LoopFiles {
            data,
            metadata,
            sizes,
        } => {
            create_file(data, sizes.data)?;
            create_file(metadata, sizes.metadata)?;
            // A file whose content is recorded as durable must not lose its name.
            sync_directory_of(data)?;
            Pool::create(names, data, metadata, DEFAULT_BLOCK_SIZE)?
        }
    })
}

/// Creates a sparse file that only root can read, as with Docker.
fn create_file(path: &Path, size: Bytes) -> Result<(), Error> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|file| file.set_len(size.0))
        .map_err(Error::io(path, "create"))
}
