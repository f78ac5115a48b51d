//! The kernel engine: lets the kernel make the pool, thin devices by device-mapper and file systems by mounting them.
//!
//! Each layer is a snapshot of its parent's device, mounted and changed in place. This engine supports existing pools,
//! and file systems that this crate does not write itself. How it works: docs/kernel-engine.md.

use std::num::NonZeroUsize;

use nix::sys::signal::SigSet;

use super::begin;
use super::build::Build;
use super::claim::Claim;
use super::error::Error;
use super::finished_pool::FinishedPool;
use super::place::RunPlace;
use super::started_run::StartedRun;
use crate::engine::Options;
use crate::engine::checkpoint::Ledger;
use crate::plan::Plan;
use crate::pool::DeviceError;
use crate::pool::{Pool, Status, Watch};
use crate::progress::{Phase, Progress};
use crate::units::{Bytes, MetaBlocks};
use crate::{populate, sys};

/// Makes all devices of `plan`. On return they are durable and inactive, and the pool has the plan's transaction id.
///
/// A resumed run continues in the existing pool if any device was durable; before that,
/// [`Previous`](super::previous::Previous) has removed what was active. Otherwise
/// [`Previous`](super::previous::Previous) has undone everything, and this is a first run in the same directories.
///
/// # Errors
///
/// [`Error::NotResumed`] if the pool of an earlier run cannot be opened, or is not what it should be; it was not
/// changed. Otherwise [`Error::Interrupted`], or why the run failed. Everything is removed again, including what was
/// recorded as durable, except what [`Error::Left`] lists.
pub(super) fn write(
    plan: &Plan,
    place: &RunPlace<'_>,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<FinishedPool, Error> {
    let copiers = copiers(options.jobs)?;
    let mounts = begin::mount_points(place.stage, &options.checkpoints)?;
    let StartedRun {
        pool,
        claim,
        base_uuid,
    } = begin::begin(plan, place, &options.checkpoints)?;
    let build = Build {
        plan,
        pool: &pool,
        mounts: &mounts,
        options,
        programs: place.programs,
        copiers: &copiers,
        progress,
        ledger: Ledger::new(options.checkpoints),
        record: claim.as_ref().map(|claim| (claim, place.stage)),
    };
    let made = make(&build, base_uuid);
    if made.is_err() {
        options.checkpoints.to.undone();
    }
    let built = finish(pool, made, (claim, place), options, progress);
    built.inspect_err(|error| begin::forget_claim(place.stage, error))
}

/// The UUID of the base device's file system, and the space that the run used in the pool's data and metadata.
type RunOutcome = (uuid::Uuid, (Bytes, MetaBlocks));

/// Ends the work in the pool after success or failure.
fn finish(
    pool: Pool,
    made: Result<RunOutcome, Error>,
    (claim, place): (Option<Claim>, &RunPlace<'_>),
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<FinishedPool, Error> {
    let (base_uuid, (used_data, used_metadata)) = match made {
        Ok(made) => made,
        Err(error) => return Err(give_up(pool, error)),
    };
    let built = FinishedPool {
        base_uuid,
        used_data,
        used_metadata,
        claim: claim.map(|claim| claim.with_base(base_uuid)),
        root: place.root.to_owned(),
        stage: place.stage.to_owned(),
    };
    progress.start(Phase::Metadata, 0);
    let closed = pool.close();
    progress.finish();
    let Err(error) = closed else {
        return Ok(built);
    };
    options.checkpoints.to.undone();
    Err(match built.take_back() {
        Ok(()) => error.into(),
        Err(left) => {
            log::warn!("{error}");
            left
        }
    })
}

fn make(build: &Build<'_>, base_uuid: Option<uuid::Uuid>) -> Result<RunOutcome, Error> {
    let Build { plan, pool, .. } = *build;
    let stop = build.options.cancel.flag();
    let watch = Watch::start(pool, move |_| {
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    })?;
    let layers = plan
        .devices
        .iter()
        .filter_map(|device| device.layer.as_ref());
    let bytes = layers.map(|layer| populate::data_bytes(&layer.tree)).sum();
    build.progress.start(Phase::Data, bytes);
    // The kernel counts a reserve as used. In a pool that already has devices, its size can no longer be determined.
    let before = match base_uuid {
        None => used(pool)?,
        Some(_) => (Bytes(0), MetaBlocks(0)),
    };
    let uuid = build.run(base_uuid)?;
    build.progress.finish();
    drop(watch);
    pool.set_transaction_id(plan.transaction_before, plan.transaction_id())?;
    // Commits now, while a failure is still undone by this run, which knows what it made, and not from a record.
    pool.commit()?;
    let after = used(pool)?;
    let data = Bytes(after.0.0.saturating_sub(before.0.0));
    let metadata = MetaBlocks(after.1.0.saturating_sub(before.1.0));
    Ok((uuid, (data, metadata)))
}

/// Removes everything, and returns why the run failed.
fn give_up(pool: Pool, error: Error) -> Error {
    let failed = || DeviceError::DiskFailed {
        pool: pool.name().to_owned(),
    };
    let problem = pool
        .explain()
        .or_else(|| error.is_of_the_disk().then(failed));
    let stuck = pool.abandon();
    let cause = match problem {
        Some(problem) if error.is_interrupted() => Error::Device(problem),
        // The error is already about the pool.
        Some(_) if matches!(error, Error::Device(ref device) if device.is_about_the_pool()) => {
            error
        }
        Some(problem) => Error::Pool {
            problem,
            noticed: Box::new(error),
        },
        None => error,
    };
    if stuck.is_empty() {
        return cause;
    }
    Error::Left {
        cause: Box::new(cause),
        left: DeviceError::Stuck(stuck),
    }
}

/// File descriptors for everything except copying: layers in progress, devices, the program's own.
const OTHER_DESCRIPTORS: usize = 256;

fn copiers(jobs: NonZeroUsize) -> Result<rayon::ThreadPool, Error> {
    let descriptors = sys::raise_open_files().saturating_sub(OTHER_DESCRIPTORS);
    let most = (descriptors / populate::DESCRIPTORS_PER_THREAD).max(1);
    rayon::ThreadPoolBuilder::new()
        .num_threads(jobs.get().min(most))
        .thread_name(|at| format!("copier {at}"))
        // Signals are for the main thread: here they would interrupt system calls.
        .start_handler(|_| {
            let _ = SigSet::all().thread_block();
        })
        .build()
        .map_err(|source| Error::Threads {
            jobs: jobs.get(),
            source,
        })
}

/// The used space of the pool's data and metadata.
fn used(pool: &Pool) -> Result<(Bytes, MetaBlocks), Error> {
    Ok(match pool.status()? {
        Status::Live(live) => (
            Bytes(live.data.used * pool.data_block().0),
            MetaBlocks(live.metadata.used),
        ),
        Status::Failed => (Bytes(0), MetaBlocks(0)),
    })
}
