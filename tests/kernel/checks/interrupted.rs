//! Runs of the kernel engine that are told to stop, or killed.

use std::{fs::File, path::Path};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::{
    block::{Active, Loop},
    lab::Lab,
    pool::Mounted,
    runner::directory,
    storage::{AMPLE, Target},
    subject::{NR_LAYERS, Subject},
    tool::{Stage, active},
    variant::{FileSystem, kernel},
};

/// Moments of a run, for the first or the second of two ways to convert: each has the beginning, and one of each two that follow.
fn moments(subject: &Subject, way: usize) -> Vec<Stage> {
    let device = |ending: &str| Stage::Device(ending.to_owned());
    let all = [
        Stage::Begun(subject.path().to_owned()),
        device("-base"),
        device(subject.layer(0)),
        device(subject.layer(2)),
        device(subject.layer(NR_LAYERS - 1)),
    ];
    let mut moments = Vec::from(all);
    let mut number = 0;
    moments.retain(|_| {
        number += 1;
        number == 1 || number % 2 == way
    });
    moments
}

/// SIGINT and SIGTERM, each at several moments: nothing is left, and the exit code says so.
pub(super) fn a_run_that_is_told_to_stop_leaves_nothing(lab: &Lab, scratch: &Path) -> Result<()> {
    let subject = Subject::new(lab, scratch)?;
    for (way, (target, file_system)) in [
        (Target::Files, FileSystem::Xfs),
        (Target::Pool, FileSystem::Ext4),
    ]
    .into_iter()
    .enumerate()
    {
        let variant = kernel(target, file_system);
        for (number, moment) in moments(&subject, way).into_iter().enumerate() {
            let signal = [Signal::SIGINT, Signal::SIGTERM][number % 2];
            let what = || format!("{variant}, {signal} at {moment:?}");
            let met = subject.meet(lab, variant, AMPLE, &moment)?;
            met.running.signal(signal)?;
            let ended = met.running.end()?;
            ended.expect(4, &["interrupted"]).with_context(what)?;
            subject.is_unharmed(&met.before).with_context(what)?;
            met.storage.expect_unused(lab).with_context(what)?;
            subject.converts(lab, variant, met.storage)?;
        }
    }
    Ok(())
}

/// A killed run leaves its devices active. The next one names them, removes them and converts; what belongs to others stays,
/// even under names like Docker's.
pub(super) fn what_a_killed_run_left_is_named_and_removed_by_the_next(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let subject = Subject::new(lab, scratch)?;
    let foreign = Foreign::new(scratch)?;
    for (way, (target, file_system)) in [
        (Target::Files, FileSystem::Ext4),
        (Target::Pool, FileSystem::Xfs),
    ]
    .into_iter()
    .enumerate()
    {
        let variant = kernel(target, file_system);
        for moment in moments(&subject, way) {
            let what = || format!("{variant}, killed at {moment:?}");
            let names = active()?;
            let met = subject.meet(lab, variant, AMPLE, &moment)?;
            met.running.signal(Signal::SIGKILL)?;
            ensure!(met.running.end()?.code.is_none(), "{}: it ended", what());
            let mut left = active()?;
            left.retain(|name| !names.contains(name) && !name.starts_with("lab-"));
            let again = subject.restart(lab, variant, &met.storage)?.end()?;
            again.expect(0, &[]).with_context(what)?;
            for name in &left {
                ensure!(
                    again.stderr.contains(name.as_str()),
                    "{}: {name} is not in:\n{}",
                    what(),
                    again.stderr
                );
            }
            met.before.leftovers.compare().with_context(what)?;
            subject.is_right(lab, met.storage).with_context(what)?;
        }
    }
    foreign.close()
}

/// Devices and a mount that belong to somebody else.
struct Foreign {
    mount: Mounted,
    device: Active,
    below: Loop,
}

impl Foreign {
    fn new(scratch: &Path) -> Result<Self> {
        let file = scratch.join("foreign.img");
        File::create(&file)?.set_len(1 << 20)?;
        let below = Loop::attach(&file)?;
        let table = format!("{} 0", below.path().display());
        // Like a pool of Docker's for another root.
        let device = Active::create("docker-0:1-2-pool", 2048, ("linear", &table))?;
        let target = directory(scratch, "foreign")?;
        let mount = Mounted::bind(&directory(scratch, "bound")?, &target)?;
        Ok(Self {
            mount,
            device,
            below,
        })
    }

    fn close(self) -> Result<()> {
        self.mount.close().context("a foreign mount")?;
        self.device.close().context("a foreign device")?;
        self.below.close().context("a foreign loop device")
    }
}
