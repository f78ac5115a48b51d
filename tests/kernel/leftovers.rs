//! What a check must not leave behind: mounts, device-mapper devices, loop devices.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use devicemapper::{DM, DevId, DmOptions};
use nix::mount::{MntFlags, umount2};

use crate::lab::{Lab, run};

/// All mounts, device-mapper devices and loop devices at one moment.
#[derive(Debug, PartialEq)]
pub(crate) struct Leftovers {
    mounts: BTreeSet<String>,
    dm_names: BTreeSet<String>,
    loops: BTreeSet<String>,
}

impl Leftovers {
    /// Looks at the machine.
    pub(crate) fn now() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let mounts = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .map(str::to_owned)
            .collect();
        let devices = DM::new()?.list_devices()?;
        let dm_names = devices
            .into_iter()
            .map(|(name, ..)| name.to_string())
            .collect();
        Ok(Self {
            mounts,
            dm_names,
            loops: attached_loops()?,
        })
    }

    /// Fails when more or less is there now than was.
    pub(crate) fn compare(&self) -> Result<()> {
        let now = Self::now()?;
        let lines = [
            ("mount", &self.mounts, &now.mounts),
            ("dm device", &self.dm_names, &now.dm_names),
            ("loop device", &self.loops, &now.loops),
        ]
        .into_iter()
        .flat_map(|(kind, before, now)| {
            let left = now
                .difference(before)
                .map(move |name| format!("left: {kind} {name}"));
            let gone = before
                .difference(now)
                .map(move |name| format!("gone: {kind} {name}"));
            left.chain(gone)
        });
        let lines: Vec<_> = lines.collect();
        ensure!(lines.is_empty(), "{}", lines.join("; "));
        Ok(())
    }

    /// Fails when there is more now than there was, and removes it, so that later checks are judged alone.
    pub(crate) fn compare_and_clean(&self, lab: &Lab) -> Result<()> {
        let now = Self::now()?;
        let mounts: Vec<_> = now.mounts.difference(&self.mounts).collect();
        let names: Vec<_> = now.dm_names.difference(&self.dm_names).collect();
        let loops: Vec<_> = now.loops.difference(&self.loops).collect();
        if mounts.is_empty() && names.is_empty() && loops.is_empty() {
            return Ok(());
        }
        for mount in mounts.iter().rev() {
            let _ = umount2(mount.as_str(), MntFlags::MNT_DETACH);
        }
        remove_all(&names);
        for device in &loops {
            let _ = run(lab.busybox("losetup").arg("-d").arg(device));
        }
        bail!("left behind: mounts {mounts:?}, dm devices {names:?}, loop devices {loops:?}")
    }
}

/// Thin devices go before their pool, so removal is repeated as long as it gets on.
fn remove_all(names: &[&String]) {
    let Ok(dm) = DM::new() else { return };
    let mut left = names.to_vec();
    loop {
        let before = left.len();
        left.retain(|name| {
            let Ok(name) = devicemapper::DmNameBuf::new((*name).clone()) else {
                return false;
            };
            dm.device_remove(&DevId::Name(&name), DmOptions::default())
                .is_err()
        });
        if left.is_empty() || left.len() == before {
            return;
        }
    }
}

fn attached_loops() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/sys/block").context("/sys/block")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if Path::new("/sys/block")
            .join(&name)
            .join("loop/backing_file")
            .exists()
        {
            found.insert(format!("/dev/{name}"));
        }
    }
    Ok(found)
}
