//! Runs of the tool that are watched, disturbed and timed.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use devicemapper::DM;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::lab::last_lines;

/// How long any run may take that comes to an end by itself; a hanging one would take for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

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
    log: PathBuf,
}

/// How a run ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None after a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Running {
    /// Starts `convert` or `resume` on a root; what it says goes to a file in `scratch`.
    pub(crate) fn start(
        mut tool: Command,
        scratch: &Path,
        (command, root): (&str, &Path),
        arguments: &[OsString],
    ) -> Result<Self> {
        let log = scratch.join("stderr");
        let process = tool
            .args(["-v", command, "--root"])
            .arg(root)
            .arg("--pidfile")
            .arg(scratch.join("docker.pid"))
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        Ok(Self {
            process,
            began: Instant::now(),
            log,
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

    /// Whether it has ended, however.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        ensure!(self.began.elapsed() < PATIENCE, "the run does not end");
        Ok(self.process.try_wait()?.is_some())
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
                last_lines(&self.said(), 20)
            );
            sleep(Duration::from_millis(5));
        };
        Ok(Ended {
            code: status.code(),
            stderr: self.said(),
            took: self.began.elapsed(),
        })
    }

    fn said(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
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
