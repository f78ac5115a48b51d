//! Runs of the kernel engine that go on with what a killed one made.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use aufs2dm::engine::kernel::claim::{self, Claim};
use aufs2dm::engine::kernel::{Previous, Record};
use aufs2dm::staging::STAGE_NAME;
use aufs2dm::sys::block::read_direct;
use aufs2dm::thin::begins_a_pool;
use nix::sys::signal::Signal;
use uuid::Uuid;

use super::kernel_claim::order_of;
use crate::{
    lab::{Lab, run},
    storage::{AMPLE, Fault, Storage, Target, Which},
    subject::{Look, NR_LAYERS, Subject, TRIES},
    tool::{Ended, Running, Stage},
    variant::{FileSystem, Variant, kernel},
};

fn at_layer(subject: &Subject, number: usize) -> Stage {
    Stage::Device(subject.layer(number).to_owned())
}

fn kill(running: Running) -> Result<()> {
    running.signal(Signal::SIGKILL)?;
    ensure!(running.end()?.code.is_none(), "it ended");
    Ok(())
}

/// Fails unless the run made the layers from `first` on, and none below.
fn expect_made_from(subject: &Subject, ended: &Ended, first: usize) -> Result<()> {
    for number in 0..NR_LAYERS {
        let line = format!("layer {}: thin device ", subject.layer(number));
        let made = ended.stderr.contains(&line);
        ensure!(
            made == (number >= first),
            "layer {number} made: {made}; {}",
            ended.stderr
        );
    }
    Ok(())
}

/// Twice: the run that goes on is killed as well. In a given pool, something that is not from it stops it first.
pub(super) fn a_killed_run_goes_on_with_the_layers_that_were_done(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let subject = Subject::new(lab, scratch)?;
    for (target, file_system) in [
        (Target::Files, FileSystem::Ext4),
        (Target::Pool, FileSystem::Xfs),
    ] {
        let variant = kernel(target, file_system);
        let context = || format!("{variant}");
        let (storage, before) = killed_twice(lab, &subject, variant)?;
        let ended = subject.resume(lab)?.end()?;
        ended.expect(0, &[]).with_context(context)?;
        expect_made_from(&subject, &ended, 3).with_context(context)?;
        before.leftovers.compare().with_context(context)?;
        subject.is_right(lab, storage).with_context(context)?;
    }
    Ok(())
}

/// A run that was killed at one layer, and the one that went on with it at another; what was there before them. The second can be too
/// fast to be met, as any: then both are made again.
fn killed_twice(lab: &Lab, subject: &Subject, variant: Variant) -> Result<(Storage, Look)> {
    for _ in 0..TRIES {
        let met = subject.meet(lab, variant, AMPLE, &at_layer(subject, 2))?;
        kill(met.running)?;
        if variant.target == Target::Pool {
            refuses_what_is_not_from_it(lab, subject, &met.storage)?;
        }
        let mut second = subject.resume(lab)?;
        if second.reaches(&at_layer(subject, 3))? {
            kill(second)?;
            return Ok((met.storage, met.before));
        }
        second.end()?.expect(0, &[])?;
        met.storage.close()?;
        subject.renew(lab)?;
    }
    bail!("{variant}: no run that goes on was met")
}

/// Names it, changes nothing, and goes on once it is gone.
fn refuses_what_is_not_from_it(lab: &Lab, subject: &Subject, storage: &Storage) -> Result<()> {
    let pool = storage.arguments().pop().context("a pool")?;
    let message = |words: &str| {
        let mut dmsetup = lab.command("dmsetup");
        run(dmsetup.arg("message").arg(&pool).args(["0", words])).map(drop)
    };
    message("create_thin 99")?;
    let ids = storage.thin_ids(lab)?;
    let ended = subject.resume(lab)?.end()?;
    ended.expect(1, &["contains thin device 99", "only undone"])?;
    ensure!(storage.thin_ids(lab)? == ids, "the pool was changed");
    message("delete 99")
}

/// What the disks' caches had when the power went is lost, and all devices have other numbers afterwards.
pub(super) fn after_a_power_cut_the_layers_that_were_done_are_there(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let subject = Subject::new(lab, scratch)?;
    for (target, file_system) in [
        (Target::Devices, FileSystem::Ext4),
        (Target::Pool, FileSystem::Ext4),
    ] {
        let variant = kernel(target, file_system);
        let context = || format!("{variant}");
        let met = subject.meet(lab, variant, AMPLE, &at_layer(&subject, 3))?;
        for which in [Which::Data, Which::Metadata] {
            met.storage.fail(which, Fault::Losses)?;
        }
        kill(met.running)?;
        let stage = subject.path().join(STAGE_NAME);
        let claim = Claim::read(&stage)?.context("no record")?;
        let ordered = Some(&order_of(&claim));
        let record = Record {
            stage: &stage,
            ordered,
        };
        let left = Previous::find(subject.path(), Some(record))?;
        left.but_its_content().remove()?;
        met.storage.close()?;
        let storage = Storage::attach(target, subject.scratch()?, AMPLE.block)?;
        let ended = subject.resume(lab)?.end()?;
        ended.expect(0, &[]).with_context(context)?;
        expect_made_from(&subject, &ended, 3).with_context(context)?;
        subject.is_right(lab, storage).with_context(context)?;
    }
    Ok(())
}

/// By the UUID of the base device; without it nobody knows whose pool it is.
pub(super) fn after_a_boot_a_run_into_given_devices_is_taken_back(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let subject = Subject::new(lab, scratch)?;
    for file_system in [FileSystem::Ext4, FileSystem::Xfs] {
        let variant = kernel(Target::Devices, file_system);
        let met = subject.meet(lab, variant, AMPLE, &at_layer(&subject, 2))?;
        kill(met.running)?;
        let rollback = |claim: Claim, code, words: &[&str]| {
            claim.write(&subject.path().join(STAGE_NAME))?;
            let at = ("rollback", subject.path());
            let ended = Running::start(lab.tool(), subject.scratch()?, at, &[])?.end()?;
            ended.expect(code, words).context(variant)
        };
        let devices = left_devices(&subject)?;
        let another = Uuid::from_u128(7).to_string();
        for (base_uuid, words) in [
            (None, "made at most one"),
            (Some(another), "another pool is there now"),
        ] {
            let claim = claim::Devices {
                base_uuid,
                ..devices.clone()
            };
            rollback(Claim::Devices(claim), 1, &[words])?;
            ensure!(is_a_pool(&devices)?, "the metadata was wiped");
        }
        rollback(Claim::Devices(devices), 0, &[])?;
        subject.is_unharmed(&met.before)?;
        met.storage.expect_unused(lab).context(variant)?;
        met.storage.close()?;
    }
    Ok(())
}

/// What the killed run's record would be after another boot.
fn left_devices(subject: &Subject) -> Result<claim::Devices> {
    match Claim::read(&subject.path().join(STAGE_NAME))? {
        Some(Claim::Devices(devices)) => Ok(claim::Devices {
            boot_id: "another".to_owned(),
            ..devices
        }),
        other => bail!("the record is {other:?}"),
    }
}

fn is_a_pool(devices: &claim::Devices) -> Result<bool> {
    let mut block = [0; 4096];
    read_direct(&devices.metadata.path, 0, &mut block)?;
    Ok(begins_a_pool(&block))
}
