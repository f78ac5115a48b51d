//! What must become of a root on which a run was broken off: it can be finished, and it can be taken back.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::tree::Tree;

/// How a run of the tool ended.
#[derive(Debug)]
pub struct Ended {
    /// `None` when it was killed.
    pub code: Option<i32>,
    /// What it said on stdout.
    pub out: String,
    /// What it said on stderr.
    pub err: String,
}

/// Runs the command with these arguments.
pub type Run<'a> = dyn Fn(&[&str]) -> Result<Ended> + 'a;

/// A root on which a run was broken off.
pub struct Broken<'a> {
    /// The Docker root.
    pub root: PathBuf,
    /// What it was before the first run.
    pub original: &'a Tree,
    /// Runs the tool with a verb and its options on the root.
    pub tool: Box<Run<'a>>,
}

/// More turns than any sequence of commands takes: a rollback is finished, the conversion done, and that is it.
const TURNS: usize = 3;

impl Broken<'_> {
    /// The state that `status` tells.
    pub fn state(&self) -> Result<String> {
        let told = (self.tool)(&["status", "--json"])?;
        ensure!(told.code == Some(0), "status: {told:#?}");
        let told: Value = serde_json::from_str(&told.out).context(told.out)?;
        Ok(told["state"].as_str().context("no state")?.to_owned())
    }

    /// Does what `status` makes one do until the root is converted, and verifies all of it.
    pub fn finish(&self) -> Result<()> {
        for _ in 0..TURNS {
            match self.state()?.as_str() {
                "none" => self.done(&["convert", "--data-size=1G", "--metadata-size=8M"])?,
                "converted" => return self.verify(),
                _ => self.done(&["resume"])?,
            };
        }
        bail!("not converted after {TURNS} commands")
    }

    /// Fails unless every byte of what was converted is right, and the aufs side as it was.
    pub fn verify(&self) -> Result<()> {
        self.done(&["verify", "--full"])?;
        let differences = self.original.differences(&Tree::read(&self.root)?, moves);
        let differences: Vec<_> = differences
            .into_iter()
            .filter(|line| !is_promised(line))
            .collect();
        none(&differences)
    }

    /// Takes the conversion back; everything is as it was.
    pub fn take_back(&self) -> Result<()> {
        self.done(&["rollback"])?;
        self.is_original()
    }

    /// The same on a copy of the root: its aufs side was written by whoever made it, so it is verified first, or taken for right where it cannot
    /// be.
    pub fn take_back_a_copy(&self) -> Result<()> {
        match self.state()?.as_str() {
            "converted" => drop(self.done(&["verify", "--full"])?),
            "switching" | "rolling-back" => {
                self.done(&["rollback", "--onto-damaged"])?;
                return self.is_original();
            }
            _ => {}
        }
        self.take_back()
    }

    /// Fails unless everything is as it was before the first run.
    pub fn is_original(&self) -> Result<()> {
        none(&self.original.differences(&Tree::read(&self.root)?, moves))
    }

    /// Runs a command that must end well and leave no pid file.
    pub fn done(&self, words: &[&str]) -> Result<Ended> {
        let ended = (self.tool)(words)?;
        ensure!(ended.code == Some(0), "{words:?}: {ended:#?}");
        let pid_file = self.root.with_file_name("docker.pid");
        ensure!(!pid_file.exists(), "{words:?}: the pid file is left");
        Ok(ended)
    }
}

fn none(differences: &[String]) -> Result<()> {
    let shown: Vec<_> = differences.iter().take(10).map(String::as_str).collect();
    ensure!(
        differences.is_empty(),
        "{} differences from the original:\n{}",
        differences.len(),
        shown.join("\n")
    );
    Ok(())
}

/// Directories in which the conversion and its undo rename: their times are put back where that is possible.
fn moves(path: &Path) -> bool {
    let depth = path.components().count();
    path.starts_with("containers") && depth <= 2 || path == Path::new("image") || depth == 0
}

/// What a conversion adds to the root or changes in it.
fn is_promised(line: &str) -> bool {
    let new = ["devicemapper", "image/devicemapper", ".aufs2dm"];
    new.iter().any(|new| line.starts_with(new))
        || line.starts_with("containers/") && line.contains("/config.v2.json: ")
}
