//! A directory in which roots are put down and commands run on them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;
use tempfile::TempDir;

use super::support::outcome::{Broken, Ended};
use super::support::tree::{Tree, remove};
use super::tracer::{self, Fault, Moment, Traced};

const BINARY: &str = env!("CARGO_BIN_EXE_aufs2dm");

/// A place for one root at a time, in memory where that is possible.
#[derive(Debug)]
pub(crate) struct Place {
    dir: TempDir,
    /// The host's `/`, with no Docker: that of this machine is held by nobody here.
    host: TempDir,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let dir = tempfile::Builder::new()
            .prefix("aufs2dm-faults-")
            .tempdir_in(parent)?;
        let host = TempDir::new()?;
        Ok(Self { dir, host })
    }

    /// The place itself.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The Docker root.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("docker")
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.path().join("docker.pid")
    }

    /// Puts down `tree` in place of what is there, as on a machine that has just started.
    pub(crate) fn put(&self, tree: &Tree) -> Result<()> {
        remove(&self.root())?;
        if self.pid_file().exists() {
            std::fs::remove_file(self.pid_file())?;
        }
        tree.write(&self.root())
    }

    /// `aufs2dm` with a verb and its options, on the root.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(words).arg("--root").arg(self.root());
        command.arg("--pidfile").arg(self.pid_file());
        command.arg("--host-root").arg(self.host.path());
        if words.first() != Some(&"convert") {
            // A root that another place has converted has another host's name in its journal.
            command.arg("--host-moved");
        }
        command
    }

    /// What is there after a run was broken off.
    pub(crate) fn broken<'a>(&'a self, original: &'a Tree) -> Broken<'a> {
        Broken {
            root: self.root(),
            original,
            tool: Box::new(|words| self.run(words)),
        }
    }

    fn run(&self, words: &[&str]) -> Result<Ended> {
        let output = self.command(words).stdin(Stdio::null()).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ended {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        })
    }

    /// Runs it with a fault, or with none.
    pub(crate) fn trace(
        &self,
        words: &[&str],
        fault: Option<(Fault, Moment<'_>)>,
    ) -> Result<Traced> {
        let places = [(self.path(), "@")];
        tracer::run(self.command(words), fault, &places)
    }
}
