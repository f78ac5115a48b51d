//! Which host and which root a command works on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::run::{BINARY, Ended, Tool, small_root};
use super::support::root::AufsRoot;
use super::support::trace::{assert_same, contents};
use crate::support::scratch::scratch;

/// A host's `/`, mounted in a rescue system.
pub(crate) struct RescuedHost {
    dir: TempDir,
}

impl RescuedHost {
    /// One whose Docker is told this in `daemon.json`, with a root there.
    pub(crate) fn new(daemon_json: Option<&str>, root: &AufsRoot, data_root: &str) -> Self {
        let host = Self { dir: scratch() };
        fs::create_dir_all(host.at("etc/docker")).unwrap();
        fs::create_dir_all(host.at("run")).unwrap();
        let unit = host.at(Tool::UNIT);
        fs::create_dir_all(unit.parent().unwrap()).unwrap();
        fs::write(unit, "[Service]\nExecStart=/usr/bin/dockerd\n").unwrap();
        if let Some(text) = daemon_json {
            fs::write(host.config(), text).unwrap();
        }
        let place = host.at(data_root);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        let copied = Command::new("cp")
            .arg("-a")
            .arg(root.path())
            .arg(&place)
            .status();
        assert!(copied.unwrap().success());
        host
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.at("etc/docker/daemon.json")
    }

    /// Runs a command with `--host-root` and without `--root`.
    pub(crate) fn run(&self, verb: &str, options: &[&str]) -> Ended {
        let mut command = Command::new(BINARY);
        command.arg(verb).args(options);
        command.arg("--host-root").arg(self.dir.path());
        command.arg("--pidfile").arg(self.at("run/docker.pid"));
        Ended::new(&command.output().unwrap())
    }
}

fn run_there(verb: &str, root: &Path, host_root: &Path, options: &[&str]) -> Ended {
    let run = scratch();
    let mut command = Command::new(BINARY);
    command.arg(verb).arg("--root").arg(root).args(options);
    command.arg("--pidfile").arg(run.path().join("docker.pid"));
    command.arg("--host-root").arg(host_root);
    Ended::new(&command.output().unwrap())
}

#[test]
fn a_host_root_that_is_no_directory_is_refused_by_every_command_before_anything_is_made() {
    let (root, dir) = (small_root(), scratch());
    fs::write(dir.path().join("file"), "").unwrap();
    let before = contents(&root.path());
    for (name, word) in [
        ("typo", "no such directory"),
        ("file", "is not a directory"),
    ] {
        for (verb, options) in [
            ("inspect", &[][..]),
            ("convert", &["--dry-run"]),
            ("convert", &["--switch-daemon"]),
            ("convert", &[]),
            ("verify", &[]),
            ("resume", &[]),
            ("rollback", &[]),
            ("commit", &["--yes"]),
            ("status", &[]),
        ] {
            run_there(verb, &root.path(), &dir.path().join(name), options)
                .expect(1, &[name, word, "--host-root"]);
        }
    }
    assert!(!dir.path().join("typo").exists());
    assert_same(&before, &contents(&root.path()));
}

#[test]
fn what_is_no_hosts_root_gets_no_daemon_json() {
    let (root, dir) = (small_root(), scratch());
    let before = contents(&root.path());
    for options in [&["--switch-daemon"][..], &["--switch-daemon", "--dry-run"]] {
        run_there("convert", &root.path(), dir.path(), options)
            .expect(1, &["no etc directory", "--switch-daemon"]);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_same(&before, &contents(&root.path()));
    run_there("convert", &root.path(), dir.path(), &[]).expect(0, &[]);
}

#[test]
fn without_root_it_is_the_one_of_the_host_that_was_named() {
    for (daemon_json, data_root, why) in [
        (None, "var/lib/docker", "does not set data-root"),
        (Some("{}"), "var/lib/docker", "does not set data-root"),
        (
            Some(r#"{"data-root": "/srv/docker"}"#),
            "srv/docker",
            "/srv/docker",
        ),
        (Some(r#"{"graph": "/srv/docker"}"#), "srv/docker", "graph"),
        (Some("{ # no"), "var/lib/docker", "daemon.json"),
    ] {
        let host = RescuedHost::new(daemon_json, &small_root(), data_root);
        let inspected = host.run("inspect", &[]);
        inspected.expect(0, &[host.at(data_root).to_str().unwrap(), why]);
        assert!(inspected.out.contains(host.at(data_root).to_str().unwrap()));
        host.run("convert", &["--dry-run"]).expect(0, &[why]);
    }
}

#[test]
fn a_root_that_is_not_there_is_named_and_not_looked_for_elsewhere() {
    let host = RescuedHost::new(
        Some(r#"{"data-root": "/mnt/disk"}"#),
        &small_root(),
        "docker",
    );
    for verb in [
        "inspect", "convert", "verify", "resume", "rollback", "commit", "status",
    ] {
        host.run(verb, &[])
            .expect(1, &[host.at("mnt/disk").to_str().unwrap()]);
    }
    assert!(!host.at("run/docker.pid").exists());
}

#[test]
fn what_is_no_root_is_refused_before_a_pid_file_is_made() {
    let (dir, empty) = (scratch(), scratch());
    let pid_file = dir.path().join("docker.pid");
    // A file that comes and goes leaves its mark here.
    let modified = || dir.path().metadata().unwrap().modified().unwrap();
    let before = modified();
    for verb in ["convert", "verify", "resume", "rollback", "commit"] {
        let mut command = Command::new(BINARY);
        command.arg(verb).arg("--root").arg(empty.path());
        command.arg("--pidfile").arg(&pid_file);
        Ended::new(&command.output().unwrap()).expect(1, &[]);
        assert_eq!(modified(), before, "{verb}");
    }
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0);
}
