//! Devices that fail and pools that run full while the kernel engine works: the run ends soon, says what failed, takes all
//! of its own down, and the aufs root is as it was.

use std::{path::Path, process::Child, thread::sleep, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::{
    block::Active,
    lab::{Lab, run},
    storage::{Fault, POOL_NAME, Sizes, Storage, Target, Which},
    subject::{Met, NR_LAYERS, Subject},
    tool::{Ended, Stage},
    variant::{FileSystem, kernel},
};

/// Twice the subject's bytes; a pool of Docker's block size.
const ENOUGH: Sizes = Sizes {
    data: 512 << 20,
    metadata: 16 << 20,
    block: 128,
};

/// When a device begins to fail.
fn stages(subject: &Subject) -> Vec<Option<Stage>> {
    let device = |ending: &str| Some(Stage::Device(ending.to_owned()));
    vec![
        None,
        device("-base"),
        device(subject.layer(0)),
        device(subject.layer(NR_LAYERS / 2)),
        device(subject.layer(NR_LAYERS - 1)),
    ]
}

/// The data device below a pool that the tool makes.
pub(super) fn a_data_device_that_fails_ends_the_run_cleanly(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    each_stage(lab, scratch, (Target::Devices, Which::Data))
}

/// The metadata device below a pool that the tool makes.
pub(super) fn a_metadata_device_that_fails_ends_the_run_cleanly(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    each_stage(lab, scratch, (Target::Devices, Which::Metadata))
}

/// The data device below an operator's pool.
pub(super) fn an_operators_pool_whose_data_device_fails_is_left_as_it_was(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    each_stage(lab, scratch, (Target::Pool, Which::Data))
}

/// The metadata device below an operator's pool: the pool itself is lost then, the root is not.
pub(super) fn an_operators_pool_whose_metadata_device_fails_costs_the_root_nothing(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    each_stage(lab, scratch, (Target::Pool, Which::Metadata))
}

fn each_stage(lab: &Lab, scratch: &Path, (target, which): (Target, Which)) -> Result<()> {
    let subject = Subject::new(lab, scratch)?;
    for (number, stage) in stages(&subject).into_iter().enumerate() {
        // All four pairs of file system and fault come up.
        let file_system = [FileSystem::Ext4, FileSystem::Xfs][number % 2];
        let fault = [Fault::Writes, Fault::All][number / 2 % 2];
        let case = Case {
            target,
            which,
            fault,
            file_system,
            stage,
        };
        case.run(lab, &subject)
            .with_context(|| format!("{case:?}"))?;
    }
    Ok(())
}

#[derive(Debug)]
struct Case {
    target: Target,
    which: Which,
    fault: Fault,
    file_system: FileSystem,
    stage: Option<Stage>,
}

impl Case {
    /// A run at the stage; or one on a device that fails already.
    fn start(&self, lab: &Lab, subject: &Subject) -> Result<Met> {
        let variant = kernel(self.target, self.file_system);
        if let Some(stage) = &self.stage {
            return subject.meet(lab, variant, ENOUGH, stage);
        }
        let storage = subject.storage(self.target, ENOUGH)?;
        let before = subject.look()?;
        storage.fail(self.which, self.fault)?;
        Ok(Met {
            running: subject.start(lab, variant, &storage)?,
            storage,
            before,
        })
    }

    fn run(&self, lab: &Lab, subject: &Subject) -> Result<()> {
        let variant = kernel(self.target, self.file_system);
        let Met {
            storage,
            before,
            running,
        } = self.start(lab, subject)?;
        let pool = storage.pool().map(Active::table).transpose()?;
        storage.fail(self.which, self.fault)?;
        let ended = running.end()?;
        ended.expect(1, &[])?;
        expect_named(&ended)?;
        storage.mend(self.which)?;
        subject.is_unharmed_but_for_a_record(&before, &ended)?;
        if self.which == Which::Metadata {
            subject.renew(lab)?;
            return storage.close(); // what it holds now is nobody's promise
        }
        // A flush that the data device does not do costs the pool its metadata transaction, and the kernel wants a check.
        // Then devices could not be deleted: the message lists them, and the next run sees to them.
        let storage = storage.repair(lab)?;
        let left = storage.thin_ids(lab)?;
        for id in &left {
            let command = format!("dmsetup message {POOL_NAME} 0 'delete {id}'");
            ensure!(
                ended.message().contains(&command),
                "thin device {id} is left, and not a word of it: {}",
                ended.message()
            );
        }
        ensure!(
            pool == storage.pool().map(Active::table).transpose()?,
            "the pool's table is another"
        );
        if left.is_empty() {
            storage.expect_unused(lab)?;
        }
        // The same devices, in order again, take the conversion.
        subject.converts(lab, variant, storage)
    }
}

/// Fails unless the error names a device of the target, or the pool.
fn expect_named(ended: &Ended) -> Result<()> {
    let names = ["/dev/lab-", POOL_NAME, "-pool"];
    ensure!(
        names.iter().any(|name| ended.message().contains(name)),
        "neither device nor pool is named in: {}",
        ended.message()
    );
    Ok(())
}

/// Data devices too small by much and by little: refused before or found out on the way, and with the next size it works.
pub(super) fn a_pool_too_small_is_named_and_left_empty(lab: &Lab, scratch: &Path) -> Result<()> {
    let subject = Subject::new(lab, scratch)?;
    for (target, file_system) in [
        (Target::Devices, FileSystem::Ext4),
        (Target::Pool, FileSystem::Xfs),
    ] {
        let variant = kernel(target, file_system);
        let (mut nr_failed, mut converted) = (0, false);
        // Steps fine enough that one of them ends amid the layers, if the plan lets it begin.
        for mebibytes in (32..=512).step_by(32) {
            let sizes = Sizes {
                data: mebibytes << 20,
                ..ENOUGH
            };
            let storage = subject.storage(target, sizes)?;
            let before = subject.look()?;
            let ended = subject.start(lab, variant, &storage)?.end()?;
            if ended.code == Some(0) {
                storage.close()?;
                subject.renew(lab)?;
                converted = true;
                break;
            }
            let what = format!("{variant}, {mebibytes} MiB");
            ended.expect(1, &[]).with_context(|| what.clone())?;
            expect_named(&ended).with_context(|| what.clone())?;
            subject.is_unharmed(&before).with_context(|| what.clone())?;
            storage.expect_unused(lab).with_context(|| what.clone())?;
            storage.close()?;
            nr_failed += 1;
        }
        ensure!(
            converted && nr_failed > 0,
            "{variant}: {nr_failed} sizes failed, one did not: {converted}"
        );
    }
    Ok(())
}

/// Metadata too small for the mappings.
pub(super) fn a_metadata_device_too_small_is_named(lab: &Lab, scratch: &Path) -> Result<()> {
    let subject = Subject::new(lab, scratch)?;
    for target in [Target::Devices, Target::Pool] {
        let sizes = Sizes {
            metadata: 128 << 10,
            ..ENOUGH
        };
        let storage = subject.storage(target, sizes)?;
        let before = subject.look()?;
        let variant = kernel(target, FileSystem::Ext4);
        let ended = subject.start(lab, variant, &storage)?.end()?;
        ended.expect(1, &["metadata"])?;
        subject.is_unharmed(&before)?;
        storage.expect_unused(lab)?;
        storage.close()?;
    }
    Ok(())
}

/// Somebody else fills the operator's pool meanwhile. The pool queues what it has no space for, so the run must notice it.
pub(super) fn a_pool_that_others_fill_meanwhile_does_not_hang_the_run(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let subject = Subject::new(lab, scratch)?;
    for (file_system, layer) in [
        (FileSystem::Ext4, 1),
        (FileSystem::Xfs, 1),
        (FileSystem::Xfs, NR_LAYERS - 1),
    ] {
        let sizes = Sizes {
            data: 320 << 20,
            ..ENOUGH
        };
        let variant = kernel(Target::Pool, file_system);
        let stage = Stage::Device(subject.layer(layer).to_owned());
        let Met {
            storage,
            before,
            running,
        } = subject.meet(lab, variant, sizes, &stage)?;
        let table = storage.pool().context("a pool")?.table()?;
        // Else it may be done before the pool is full.
        running.signal(Signal::SIGSTOP)?;
        let filler = Filler::start(lab, &storage)?;
        wait_until_full(lab)?;
        running.signal(Signal::SIGCONT)?;
        let ended = running.end();
        filler.close()?;
        let ended = ended?;
        ended.expect(1, &[POOL_NAME, "data device is full"])?;
        ensure!(
            table == storage.pool().context("a pool")?.table()?,
            "the pool's table is another"
        );
        subject.is_unharmed(&before)?;
        storage.expect_unused(lab)?;
        storage.close()?;
    }
    Ok(())
}

/// A thin device that is not ours, and a program that writes to it until the pool is full.
struct Filler<'a> {
    writer: Child,
    device: Active,
    pool: &'a Active,
}

/// Its number in the pool: one that no run gives.
const FOREIGN: u32 = 16_000_000;

impl<'a> Filler<'a> {
    fn start(lab: &Lab, storage: &'a Storage) -> Result<Self> {
        let pool = storage.pool().context("a pool")?;
        pool.message(&format!("create_thin {FOREIGN}"))?;
        let table = format!("{} {FOREIGN}", pool.device());
        let device = Active::create("lab-foreign", 1 << 21, ("thin", &table))?;
        let writer = lab
            .command("dd")
            .args(["if=/dev/zero", "bs=1M", "oflag=direct"])
            .arg(format!("of={}", device.path().display()))
            .stderr(std::process::Stdio::null())
            .spawn()?;
        Ok(Self {
            writer,
            device,
            pool,
        })
    }

    fn close(mut self) -> Result<()> {
        self.writer.kill()?;
        self.writer.wait()?;
        self.device.close()?;
        self.pool.message(&format!("delete {FOREIGN}"))
    }
}

fn wait_until_full(lab: &Lab) -> Result<()> {
    for _ in 0..1000 {
        let status = run(lab.command("dmsetup").args(["status", POOL_NAME]))?;
        if status.contains("out_of_data_space") {
            return Ok(());
        }
        sleep(Duration::from_millis(20));
    }
    bail!("the pool does not get full")
}
