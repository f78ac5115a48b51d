//! LVM on a disk of its own, a loop device: the real programs, which see no other disk of the machine.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    block::Loop,
    lab::{Lab, run},
    runner::directory,
};

/// The volume group of `docs/kernel-engine.md`.
const GROUP: &str = "docker";
/// The pool there, by its device-mapper name.
pub(crate) const POOL: &str = "docker-thinpool";
/// Bytes of the disk; its file is sparse.
const DISK: u64 = 8 << 30;

/// A disk for LVM.
#[derive(Debug)]
pub(crate) struct Lvm<'lab> {
    lab: &'lab Lab,
    /// Until closed.
    disk: Option<Loop>,
    path: PathBuf,
    configuration: PathBuf,
}

impl<'lab> Lvm<'lab> {
    /// An empty disk.
    pub(crate) fn new(lab: &'lab Lab, scratch: &Path) -> Result<Self> {
        let file = scratch.join("disk.img");
        File::create(&file)?.set_len(DISK)?;
        let disk = Loop::attach(&file)?;
        let configuration = directory(scratch, "lvm")?;
        // By default LVM waits for udev's rules and leaves the nodes to them.
        let udev = if Path::new("/run/udev/control").exists() {
            ""
        } else {
            "udev_sync=0 udev_rules=0"
        };
        let text = format!(
            "devices {{ filter=[\"a|^{}$|\", \"r|.*|\"] use_devicesfile=0 obtain_device_list_from_udev=0 }}\n\
             activation {{ monitoring=0 {udev} }}\n\
             global {{ thin_check_executable=\"{}\" }}\n",
            disk.path().display(),
            lab.directory().join("bin/thin_check").display(),
        );
        fs::write(configuration.join("lvm.conf"), text)?;
        Ok(Self {
            lab,
            path: disk.path().to_owned(),
            disk: Some(disk),
            configuration,
        })
    }

    /// The same with the volume group on it.
    pub(crate) fn with_group(lab: &'lab Lab, scratch: &Path) -> Result<Self> {
        let lvm = Self::new(lab, scratch)?;
        lvm.run(&format!("vgcreate {GROUP} {}", lvm.disk().display()))?;
        Ok(lvm)
    }

    /// The disk.
    pub(crate) fn disk(&self) -> &Path {
        &self.path
    }

    /// One of LVM's commands, not yet run; its words have no spaces.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut words = line.split(' ');
        let mut command = self.lab.command(words.next().unwrap_or_default());
        command
            .args(words)
            .env("LVM_SYSTEM_DIR", &self.configuration)
            .env("LVM_SUPPRESS_FD_WARNINGS", "1");
        command
    }

    /// Runs one and returns what it printed.
    pub(crate) fn run(&self, line: &str) -> Result<String> {
        run(&mut self.command(line))
    }

    /// Removes the group, and detaches the disk.
    pub(crate) fn close(mut self) -> Result<()> {
        self.run(&format!("vgremove --yes {GROUP}"))?;
        let disk = self.disk.take().context("attached until closed")?;
        disk.close()
    }
}

impl Drop for Lvm<'_> {
    fn drop(&mut self) {
        if self.disk.is_some() {
            let _ = self.run(&format!("vgremove --yes --force {GROUP}"));
        }
    }
}
