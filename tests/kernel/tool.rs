//! Runs of the tool that are watched, disturbed and timed.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Child,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use devicemapper::DM;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::lab::{Lab, last_lines};

/// How long any run may take that comes to an end by itself; a hanging one would take for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A moment of a run, seen from outside.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// The staging directory is there.
    Begun(PathBuf),
    /// A device-mapper device is there whose name ends so: `-pool`, `-base`, or a layer's id.
    Device(String),
}

impl Stage {
    fn is_reached(&self) -> Result<bool> {
        match self {
            Self::Begun(root) => Ok(root.join(".aufs2dm").exists()),
            Self::Device(ending) => Ok(active()?.iter().any(|name| name.ends_with(ending))),
        }
    }
}

/// The names of all device-mapper devices.
pub(crate) fn active() -> Result<Vec<String>> {
    let devices = DM::new()?.list_devices()?;
    Ok(devices
        .into_iter()
        .map(|(name, ..)| name.to_string())
        .collect())
}

/// A run in progress; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    process: Child,
    began: Instant,
    output: PathBuf,
}

/// How a run ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None after a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Running {
    /// Starts `convert` on a root; what it prints goes to files in `scratch`.
    pub(crate) fn start<A: AsRef<OsStr>>(
        lab: &Lab,
        scratch: &Path,
        root: &Path,
        arguments: &[A],
    ) -> Result<Self> {
        let process = lab
            .tool()
            .args(["-v", "convert", "--json", "--root"])
            .arg(root)
            .arg("--pidfile")
            .arg(scratch.join("docker.pid"))
            .args(arguments)
            .stdout(File::create(scratch.join("stdout"))?)
            .stderr(File::create(scratch.join("stderr"))?)
            .spawn()?;
        Ok(Self {
            process,
            began: Instant::now(),
            output: scratch.to_owned(),
        })
    }

    /// Waits until a stage is reached; false when the run ended without.
    pub(crate) fn reaches(&mut self, stage: &Stage) -> Result<bool> {
        while self.began.elapsed() < PATIENCE {
            if stage.is_reached()? {
                return Ok(true);
            }
            if self.process.try_wait()?.is_some() {
                return Ok(false);
            }
            sleep(Duration::from_micros(500));
        }
        bail!("{stage:?} was not reached in {} s", PATIENCE.as_secs())
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.process.id())?), signal)
            .with_context(|| signal.to_string())
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Result<Ended> {
        let status = loop {
            if let Some(status) = self.process.try_wait()? {
                break status;
            }
            ensure!(
                self.began.elapsed() < PATIENCE,
                "the run did not end in {} s; it said:\n{}",
                PATIENCE.as_secs(),
                last_lines(&self.said("stderr"), 20)
            );
            sleep(Duration::from_millis(5));
        };
        Ok(Ended {
            code: status.code(),
            stdout: self.said("stdout"),
            stderr: self.said("stderr"),
            took: self.began.elapsed(),
        })
    }

    fn said(&self, name: &str) -> String {
        let bytes = fs::read(self.output.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Ended {
    /// Fails unless it ended with this code, and said each of the words in its error.
    pub(crate) fn expect(&self, code: i32, words: &[&str]) -> Result<()> {
        let message = self.message();
        let missing: Vec<_> = words
            .iter()
            .filter(|word| !message.contains(**word))
            .collect();
        ensure!(
            self.code == Some(code) && missing.is_empty(),
            "ended with {:?}, not {code}, or without {missing:?}:\n{}",
            self.code,
            last_lines(&self.stderr, 20)
        );
        Ok(())
    }

    /// What a user reads last: the error and its hints, without the log before them.
    pub(crate) fn message(&self) -> &str {
        self.stderr
            .find("error: ")
            .map_or("", |at| &self.stderr[at..])
    }
}
