//! How the kernel engine gets on with udev, and how it uses the machine.

use std::{collections::BTreeSet, path::Path, thread::sleep, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::{
    lab::Lab,
    storage::{AMPLE, Storage, Target},
    subject::{Met, Subject},
    support::root::AufsRoot,
    tool::{Running, Stage, active},
    udev::{Udevd, nr_semaphores},
    variant::{FileSystem, kernel},
};

/// With udev every change of a device waits for its cookie; none is left, neither after success nor after a signal.
pub(super) fn with_udev_cookies_are_waited_for_and_none_is_left(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let subject = Subject::new(lab, scratch)?;
    let udevd = Udevd::start(lab, scratch)?;
    let before = nr_semaphores()?;
    for (target, file_system) in [
        (Target::Files, FileSystem::Ext4),
        (Target::Pool, FileSystem::Xfs),
    ] {
        let variant = kernel(target, file_system);
        let stage = Stage::Device(subject.layer(1).to_owned());
        let Met {
            storage,
            before: look,
            running,
        } = subject.meet(lab, variant, AMPLE, &stage)?;
        running.signal(Signal::SIGTERM)?;
        running.end()?.expect(4, &["interrupted"])?;
        subject.is_unharmed(&look)?;
        ensure!(
            nr_semaphores()? == before,
            "{variant}: cookies are left after a signal"
        );

        let mut running = subject.start(lab, variant, &storage)?;
        let mut most = 0;
        while !running.has_ended()? {
            most = most.max(nr_semaphores()?);
            sleep(Duration::from_micros(200));
        }
        running.end()?.expect(0, &[])?;
        ensure!(most > before, "{variant}: no cookie was ever seen");
        ensure!(nr_semaphores()? == before, "{variant}: cookies are left");
        subject.is_right(lab, storage)?;
    }
    udevd.close(lab)
}

/// Two chains that have nothing in common are filled at the same time, and with one job they are not.
pub(super) fn chains_without_a_common_layer_are_filled_at_once(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let _ = tempfile::env::override_temp_dir(lab.work());
    for (jobs, wanted) in [("1", 1..=1), ("2", 2..=2), ("8", 2..=3)] {
        let mut root = AufsRoot::new();
        let mut ids = BTreeSet::new();
        for chain in ["a", "b", "c"] {
            let mut parent = None;
            for number in 0..3 {
                let name = format!("{chain}{number}");
                root = root.layer_on(parent.as_deref(), &name, |layer| {
                    layer.file(&name, vec![1; 8 << 20])
                });
                ids.insert(root.id(&name).to_owned());
                parent = Some(name);
            }
            let top = parent.context("a chain has layers")?;
            root = root.image(&format!("lab/{chain}:1"), &top);
        }
        let variant = kernel(Target::Files, FileSystem::Ext4);
        let mut arguments = variant.all_arguments(&Storage::files());
        arguments.extend(["--jobs".into(), jobs.into()]);
        let mut running =
            Running::start(lab.tool(), scratch, ("convert", &root.path()), &arguments)?;
        let mut most = 0;
        while !running.has_ended()? {
            let names = active()?;
            let is_layer = |name: &&String| ids.iter().any(|id| name.ends_with(id));
            most = most.max(names.iter().filter(is_layer).count());
            sleep(Duration::from_micros(500));
        }
        running.end()?.expect(0, &[])?;
        ensure!(
            wanted.contains(&most),
            "--jobs {jobs}: at most {most} layers were active at once"
        );
    }
    Ok(())
}
