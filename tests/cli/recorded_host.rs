//! A conversion that was begun for a host mounted in a rescue system, and is gone on with by a command that is not told where.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::interrupted::wait_for;
use super::run::{BINARY, Ended, Tool, large_root, small_root};
use super::support::root::AufsRoot;
use super::support::trace::{assert_same, contents};
use crate::support::scratch::scratch;

const OLD: &str = "{\"debug\": true}";

/// A host's `/` with a root in it, both in a directory of their own.
struct Rescue {
    dir: TempDir,
    host: PathBuf,
}

impl Rescue {
    fn new(root: &AufsRoot) -> Self {
        let dir = scratch();
        let host = dir.path().join("host");
        for inner in ["etc/docker", "etc/systemd/system", "run", "var/lib"] {
            fs::create_dir_all(host.join(inner)).unwrap();
        }
        fs::write(host.join("etc/docker/daemon.json"), OLD).unwrap();
        let unit = "[Service]\nExecStart=/usr/bin/dockerd\n";
        fs::write(host.join(Tool::UNIT), unit).unwrap();
        let rescue = Self { dir, host };
        rescue.number(1);
        let copied = Command::new("cp")
            .arg("-a")
            .arg(root.path())
            .arg(rescue.root())
            .status();
        assert!(copied.unwrap().success());
        rescue
    }

    /// Gives the host this number.
    fn number(&self, number: u32) {
        fs::write(self.host.join("etc/machine-id"), format!("{number:032x}\n")).unwrap();
    }

    fn root(&self) -> PathBuf {
        self.host.join("var/lib/docker")
    }

    fn pid_file(&self) -> PathBuf {
        self.host.join("run/docker.pid")
    }

    fn config(&self) -> String {
        fs::read_to_string(self.host.join("etc/docker/daemon.json")).unwrap()
    }

    fn command(&self, verb: &str, options: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.arg(verb).arg("--root").arg(self.root());
        command.arg("--pidfile").arg(self.pid_file()).args(options);
        command
    }

    /// Without a host root, unless the options have one.
    fn run(&self, verb: &str, options: &[&str]) -> Ended {
        Ended::new(&self.command(verb, options).output().unwrap())
    }

    fn convert(&self) -> Command {
        let mut command = self.command("convert", &["--switch-daemon", "--jobs", "1"]);
        command
            .args(["--checkpoint", "0", "--host-root"])
            .arg(&self.host);
        command
    }

    /// Killed while layers were written.
    fn killed_while_writing() -> Self {
        let rescue = Self::new(&large_root());
        let mut convert = rescue.convert();
        convert.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = convert.spawn().unwrap();
        wait_for(
            &rescue
                .root()
                .join(".aufs2dm/devicemapper/devicemapper/data"),
        );
        child.kill().unwrap();
        child.wait().unwrap();
        rescue
    }

    /// As a kill leaves it that comes between the first rename and the second.
    fn killed_while_moving() -> Self {
        let rescue = Self::new(&small_root());
        Ended::new(&rescue.convert().output().unwrap()).expect(0, &[]);
        let (root, stage) = (rescue.root(), rescue.root().join(".aufs2dm"));
        let journal = fs::read_to_string(stage.join("journal")).unwrap();
        let end = journal.find("{\"record\":\"switched\"").unwrap();
        fs::write(stage.join("journal"), &journal[..end]).unwrap();
        fs::rename(root.join("image/devicemapper"), stage.join("image")).unwrap();
        let docker = rescue.host.join("etc/docker");
        fs::rename(
            docker.join("daemon.json.aufs2dm-original"),
            docker.join("daemon.json"),
        )
        .unwrap();
        rescue
    }

    /// Mounts the host elsewhere.
    fn moved(mut self) -> Self {
        let there = self.dir.path().join("elsewhere");
        fs::rename(&self.host, &there).unwrap();
        self.host = there;
        self
    }

    fn is_switched(&self) -> bool {
        self.config().contains("devicemapper")
    }
}

/// The rescue system's own settings, which nobody may touch.
fn own_config() -> Option<Vec<u8>> {
    fs::read("/etc/docker/daemon.json").ok()
}

/// The command between backquotes that has these words.
fn command_with(text: &str, words: &str) -> Vec<String> {
    let command = text.split('`').find(|part| part.contains(words)).unwrap();
    command.split(' ').skip(1).map(str::to_owned).collect()
}

#[test]
fn what_was_killed_goes_on_with_the_host_that_it_was_begun_for() {
    for killed in [Rescue::killed_while_writing, Rescue::killed_while_moving] {
        let (rescue, own) = (killed(), own_config());
        rescue.run("resume", &[]).expect(0, &[]);
        assert!(rescue.is_switched(), "{}", rescue.config());
        assert_eq!(own_config(), own);
        rescue.run("rollback", &[]).expect(0, &[]);
        assert_eq!(rescue.config(), OLD);
    }
}

#[test]
fn what_was_killed_is_taken_back_on_the_host_that_it_was_begun_for() {
    for killed in [Rescue::killed_while_writing, Rescue::killed_while_moving] {
        let (rescue, own) = (killed(), own_config());
        rescue.run("rollback", &[]).expect(0, &[]);
        assert_eq!(rescue.config(), OLD);
        assert_eq!(own_config(), own);
        assert!(!rescue.root().join(".aufs2dm").exists());
        assert!(!rescue.root().join("devicemapper").exists());
    }
}

#[test]
fn another_host_than_the_one_it_was_begun_for_is_refused_before_anything_is_touched() {
    let rescue = Rescue::killed_while_moving();
    let other = scratch();
    fs::create_dir(other.path().join("etc")).unwrap();
    let before = contents(&rescue.root());
    let named = ["--host-root", other.path().to_str().unwrap()];
    for number in [None, Some(2)] {
        if let Some(number) = number {
            let text = format!("{number:032x}\n");
            fs::write(other.path().join("etc/machine-id"), text).unwrap();
        }
        for verb in ["resume", "rollback", "commit", "verify", "status"] {
            let refused = rescue.run(verb, &named);
            let as_begun = format!("--host-root {}", rescue.host.display());
            refused.expect(
                1,
                &[named[1], &as_begun, "--host-moved", "nothing was done"],
            );
        }
    }
    assert_same(&before, &contents(&rescue.root()));
    let refused = rescue.run("resume", &named);
    let pasted = command_with(
        &refused.err,
        &format!("--host-root {}", rescue.host.display()),
    );
    let done = Command::new(BINARY).args(pasted).output().unwrap();
    Ended::new(&done).expect(0, &[]);
    assert!(rescue.is_switched());
    assert_eq!(fs::read_dir(other.path().join("etc")).unwrap().count(), 1);
}

#[test]
fn the_lines_of_a_refusal_have_all_options_of_the_command_that_was_refused() {
    let rescue = Rescue::killed_while_moving();
    let other = scratch();
    fs::create_dir(other.path().join("etc")).unwrap();
    let other = other.path().to_str().unwrap();
    for (verb, options, words) in [
        ("verify", &["--full"][..], "verify --full"),
        (
            "commit",
            &["--yes", "--drop-left-out"],
            "commit --yes --drop-left-out",
        ),
        ("rollback", &["--force"], "rollback --force"),
        ("resume", &["--jobs", "2"], "resume --jobs 2"),
        (
            "verify",
            &["--thin-pool", "/dev/a b"],
            "verify --thin-pool '/dev/a b'",
        ),
    ] {
        let named = [options, &["--host-root", other]].concat();
        let place = format!(
            "aufs2dm {words} --root {} --host-root",
            rescue.root().display()
        );
        rescue.run(verb, &named).expect(
            1,
            &[
                &format!("{place} {}", rescue.host.display()),
                &format!("{place} {other}"),
            ],
        );
        let named = [options, &["--pidfile", "/run/other.pid"]].concat();
        let mut command = Command::new(BINARY);
        command
            .arg(verb)
            .arg("--root")
            .arg(rescue.root())
            .args(named);
        let refused = Ended::new(&command.output().unwrap());
        let line = format!("aufs2dm {words} --root {} ", rescue.root().display());
        let asked = format!("--pidfile {}`", rescue.pid_file().display());
        refused.expect(
            1,
            &[&line, &asked, "--pidfile /run/other.pid --host-moved`"],
        );
    }
}

#[test]
fn the_same_host_mounted_elsewhere_is_known_again() {
    for killed in [Rescue::killed_while_writing, Rescue::killed_while_moving] {
        for verb in ["resume", "rollback"] {
            let rescue = killed().moved();
            let before = contents(&rescue.root());
            rescue
                .run(verb, &[])
                .expect(1, &["host", "is not a directory now", "--host-root DIR"]);
            assert_same(&before, &contents(&rescue.root()));
            let host = rescue.host.to_str().unwrap().to_owned();
            rescue.run(verb, &["--host-root", &host]).expect(0, &[]);
            assert_eq!(
                rescue.is_switched(),
                verb == "resume",
                "{}",
                rescue.config()
            );
        }
    }
}

#[test]
fn what_looks_like_another_host_is_taken_only_when_the_operator_says_so() {
    let rescue = Rescue::killed_while_moving();
    // As if another disk were mounted there; the pid file and the root are the same.
    rescue.number(2);
    for options in [&[][..], &["--host-root", rescue.host.to_str().unwrap()]] {
        rescue
            .run("rollback", options)
            .expect(1, &["another host", "nothing was done"]);
    }
    assert!(rescue.root().join(".aufs2dm").exists());
    let host = rescue.host.to_str().unwrap();
    rescue
        .run("rollback", &["--host-root", host, "--host-moved"])
        .expect(0, &[]);
    assert_eq!(rescue.config(), OLD);
}

#[test]
fn a_recorded_pid_file_is_asked_for_and_never_made() {
    let rescue = Rescue::killed_while_moving();
    let other = rescue.dir.path().join("other.pid");
    let before = contents(&rescue.root());
    for verb in ["resume", "rollback", "commit", "verify"] {
        let mut command = Command::new(BINARY);
        command.arg(verb).arg("--root").arg(rescue.root());
        command.arg("--pidfile").arg(&other);
        let refused = Ended::new(&command.output().unwrap());
        let asked = format!("--pidfile {}", rescue.pid_file().display());
        refused.expect(1, &[other.to_str().unwrap(), &asked, "nothing was done"]);
    }
    assert_same(&before, &contents(&rescue.root()));
    assert!(!other.exists() && !rescue.pid_file().exists());
}

#[test]
fn a_recorded_host_root_that_is_no_host_is_not_taken() {
    let rescue = Rescue::killed_while_moving();
    fs::remove_dir_all(rescue.host.join("etc")).unwrap();
    let before = contents(&rescue.root());
    for verb in ["resume", "rollback"] {
        rescue
            .run(verb, &[])
            .expect(1, &["no etc directory", "--host-root"]);
    }
    assert_same(&before, &contents(&rescue.root()));
}

#[test]
fn status_tells_where_it_stands_with_commands_for_the_recorded_host() {
    let rescue = Rescue::killed_while_moving();
    let told = rescue.run("status", &[]);
    told.expect(0, &[]);
    let host_root = format!("--host-root {}", Path::new(&rescue.host).display());
    assert!(
        command_with(&told.out, " resume ")
            .join(" ")
            .contains(&host_root)
    );
    let rescue = rescue.moved();
    rescue
        .run("status", &[])
        .expect(0, &["is not a directory now"]);
}
