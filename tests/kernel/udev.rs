//! udev, as far as device-mapper needs it: it makes the links and completes the cookies that programs wait for.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::lab::{Lab, run};

/// What libraries look at to know that udev runs. Source: systemd v252 src/libudev/libudev-queue.c.
const CONTROL: &str = "/run/udev/control";
/// Rules for other hardware than block devices only cost time.
const RULES: [&str; 7] = [
    "50-udev-default",
    "55-dm",
    "56-lvm",
    "60-block",
    "60-persistent-storage",
    "60-persistent-storage-dm",
    "95-dm-notify",
];

/// A running udevd; ended when dropped.
#[derive(Debug)]
pub(crate) struct Udevd {
    process: Option<Child>,
}

impl Udevd {
    /// Starts it with the lab's rules, unless the machine has one.
    pub(crate) fn start(lab: &Lab, scratch: &Path) -> Result<Self> {
        if Path::new(CONTROL).exists() {
            return Ok(Self { process: None });
        }
        ensure!(
            Path::new("/sbin/dmsetup").exists(),
            "/sbin/dmsetup, which the rules call, is missing: install dmsetup"
        );
        let rules = Path::new("/run/udev/rules.d");
        fs::create_dir_all(rules)?;
        for name in RULES {
            let name = format!("{name}.rules");
            let from = lab.directory().join("udev/rules.d").join(&name);
            fs::copy(&from, rules.join(name)).with_context(|| from.display().to_string())?;
        }
        let log = File::create(scratch.join("udevd.log"))?;
        let process = lab
            .command("udevadm")
            .arg0("systemd-udevd") // the same program under another name
            .arg("--resolve-names=never")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let udevd = Self {
            process: Some(process),
        };
        let began = Instant::now();
        while !Path::new(CONTROL).exists() {
            ensure!(
                began.elapsed() < Duration::from_secs(120),
                "udevd did not start"
            );
            sleep(Duration::from_millis(10));
        }
        Ok(udevd)
    }

    /// Waits until all events are handled, and ends it.
    pub(crate) fn close(mut self, lab: &Lab) -> Result<()> {
        run(lab.command("udevadm").args(["settle", "--timeout=120"]))?;
        self.end();
        Ok(())
    }

    fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
            let _ = fs::remove_dir_all("/run/udev");
        }
    }
}

impl Drop for Udevd {
    fn drop(&mut self) {
        self.end();
    }
}

/// How many System V semaphores there are: a cookie is one.
pub(crate) fn nr_semaphores() -> Result<usize> {
    let table = fs::read_to_string("/proc/sysvipc/sem")?;
    Ok(table.lines().skip(1).count())
}
