//! Runs the binary on a root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use super::support::root::AufsRoot;
use crate::support::scratch::scratch;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_aufs2dm");

/// A command with a pid file of its own.
pub(crate) struct Tool {
    run: TempDir,
}

impl Tool {
    /// What starts Docker on the host.
    pub(crate) const UNIT: &str = "etc/systemd/system/docker.service";

    pub(crate) fn new() -> Self {
        let tool = Self { run: scratch() };
        let unit = tool.host_root().join(Self::UNIT);
        fs::create_dir_all(unit.parent().unwrap()).unwrap();
        fs::write(unit, "[Service]\nExecStart=/usr/bin/dockerd\n").unwrap();
        tool
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.run.path().join("docker.pid")
    }

    /// The host's `/`: with a unit for Docker, and no more unless a test puts it there.
    pub(crate) fn host_root(&self) -> &Path {
        self.run.path()
    }

    pub(crate) fn command(&self, verb: &str, root: &Path, options: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.arg(verb).arg("--root").arg(root).args(options);
        command.arg("--pidfile").arg(self.pid_file());
        command.arg("--host-root").arg(self.host_root());
        command
    }

    pub(crate) fn run(&self, verb: &str, root: &Path, options: &[&str]) -> Ended {
        Ended::new(&self.command(verb, root, options).output().unwrap())
    }

    /// Starts `commit` with a terminal to ask on, which is a pipe from here.
    pub(crate) fn commit_on_terminal(&self, root: &Path) -> Child {
        let own = self.command("commit", root, &[]);
        let words = [own.get_program()].into_iter().chain(own.get_args());
        let words: Vec<_> = words
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        let mut script = Command::new("script");
        // A shell that stays between them is ended by Ctrl-C as well and hides the exit code; not every
        // /bin/sh replaces itself by its last command.
        let line = format!("exec {}", words.join(" "));
        script.args(["-q", "-e", "-c", &line, "/dev/null"]);
        let piped = script.stdin(Stdio::piped()).stdout(Stdio::piped());
        piped.spawn().unwrap()
    }

    pub(crate) fn start(&self, root: &Path, options: &[&str]) -> Child {
        let mut command = self.command("convert", root, options);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }
}

/// What a run left on its terminal.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn new(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    /// Fails unless the exit code is this and each of the words is in what was said on stderr.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in {self:?}");
        }
    }
}

/// A base layer, one layer on it, a container.
pub(crate) fn small_root() -> AufsRoot {
    AufsRoot::new()
        .layer("base", |l| {
            let l = l.file("bin/sh", "#!").mode("bin/sh", 0o755);
            l.file("etc/motd", "hello").symlink("etc/link", "motd")
        })
        .layer("app", |l| {
            l.file("app/data", [7; 9000]).whiteout("etc/motd")
        })
        .image("lab/app:1", "app")
        .container("web", ("lab/app:1", "app"), |l| l.file("log", "line"))
}

/// A root whose data takes a while to write.
pub(crate) fn large_root() -> AufsRoot {
    let content = vec![0x5a; 2 << 20];
    AufsRoot::new()
        .layer("base", |l| {
            (0..48).fold(l, |l, n| l.file(format!("blob{n:03}"), &content))
        })
        .image("lab/base:1", "base")
}
