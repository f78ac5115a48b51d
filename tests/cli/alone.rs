//! Docker is kept out by all pid files that it could use, and looked for again right before anything is moved or removed.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::interrupted::wait_for;
use super::run::{Ended, Tool, small_root};
use super::support::root::AufsRoot;
use super::support::trace::{assert_same, contents};
use crate::support::scratch::scratch;

/// A process that looks like a daemon with these flags, until it is dropped.
pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.arg0("dockerd").args(["-c", "read x"]).args(flags);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A root whose data takes a moment to write.
fn root_with_data() -> AufsRoot {
    let content = vec![0x5a; 1 << 20];
    AufsRoot::new()
        .layer("base", |l| {
            (0..24).fold(l, |l, n| l.file(format!("blob{n:02}"), &content))
        })
        .image("lab/base:1", "base")
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Stops a process, does something, and lets it go on to its end.
fn stopped<T>(child: Child, change: impl FnOnce() -> T) -> (Ended, T) {
    let pid = Pid::from_raw(child.id().cast_signed());
    kill(pid, Signal::SIGSTOP).unwrap();
    let done = change();
    kill(pid, Signal::SIGCONT).unwrap();
    (Ended::new(&child.wait_with_output().unwrap()), done)
}

/// A conversion during which something happens must move nothing and keep its layers, and be gone on with once what `change` gave is
/// gone.
#[track_caller]
fn nothing_moved<T>(change: impl FnOnce(&Tool, &Path) -> T, words: &[&str]) {
    let (tool, root) = (Tool::new(), root_with_data());
    let root = root.path();
    let before = contents(&root.join("aufs"));
    let child = tool.start(&root, &["--jobs", "1", "--checkpoint", "0"]);
    wait_for(&root.join(".aufs2dm/journal"));
    let (ended, done) = stopped(child, || change(&tool, &root));
    ended.expect(1, words);
    let resume = format!("aufs2dm resume --root {}", root.display());
    ended.expect(1, &["nothing was moved", &resume, "--host-root"]);
    assert!(!root.join("devicemapper").exists(), "{ended:?}");
    assert!(!root.join("image/devicemapper").exists(), "{ended:?}");
    assert_same(&before, &contents(&root.join("aufs")));
    drop(done);
    let resumed = tool.run("resume", &root, &[]);
    resumed.expect(0, &[]);
    assert!(root.join("devicemapper/metadata/base").exists());
}

#[test]
fn a_daemon_that_started_meanwhile_is_found_before_the_move() {
    nothing_moved(
        |_, root| Daemon::start(&["--data-root", root.to_str().unwrap()]),
        &["docker is running", "uses this root"],
    );
}

#[test]
fn a_daemon_whose_file_names_the_root_is_found_before_the_move() {
    let dir = scratch();
    let config = dir.path().join("d.json");
    nothing_moved(
        |_, root| {
            write(&config, &format!("{{\"data-root\": {root:?}}}"));
            Daemon::start(&["--config-file", config.to_str().unwrap()])
        },
        &["docker is running", "uses this root"],
    );
}

#[test]
fn a_daemon_that_has_a_file_of_the_root_open_is_found_before_the_move() {
    nothing_moved(
        |_, root| {
            let mut command = Command::new("sh");
            let open = format!(
                "exec 9<{}; read x",
                root.join("image/aufs/repositories.json").display()
            );
            command
                .arg0("dockerd")
                .args(["-c", &open])
                .stdin(Stdio::piped());
            command.arg("--data-root=/somewhere/else");
            let daemon = Daemon(command.spawn().unwrap());
            wait_for(&PathBuf::from(format!("/proc/{}/fd/9", daemon.pid())));
            daemon
        },
        &["docker is running", "uses this root"],
    );
}

#[test]
fn a_pid_file_that_somebody_else_replaced_is_found_before_the_move() {
    nothing_moved(
        |tool, _| {
            fs::remove_file(tool.pid_file()).unwrap();
            fs::write(tool.pid_file(), "1").unwrap();
            Remove(tool.pid_file())
        },
        &["docker.pid", "it names process 1,"],
    );
}

#[test]
fn a_pid_file_that_somebody_else_wrote_to_is_found_before_the_move_and_left() {
    nothing_moved(
        |tool, _| {
            fs::write(tool.pid_file(), "1").unwrap();
            Remove(tool.pid_file())
        },
        &["docker.pid", "it names process 1,"],
    );
}

/// A file that must be there when it is dropped, and then goes.
struct Remove(PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        assert_eq!(fs::read_to_string(&self.0).unwrap(), "1");
        fs::remove_file(&self.0).unwrap();
    }
}

#[test]
fn a_pid_file_that_was_named_meanwhile_is_read_before_the_move() {
    nothing_moved(
        |tool, _| {
            // Of another root: nothing but the pid file tells of it.
            let daemon = Daemon::start(&["--data-root", "/somewhere/else"]);
            let host = tool.host_root();
            write(
                &host.join("etc/docker/daemon.json"),
                r#"{"pidfile": "/new/d.pid"}"#,
            );
            write(&host.join("new/d.pid"), &daemon.pid());
            daemon
        },
        &["/new/d.pid: docker is running as process"],
    );
}

#[test]
fn a_pid_file_that_is_gone_is_made_anew() {
    let (tool, root) = (Tool::new(), root_with_data());
    let child = tool.start(&root.path(), &["--jobs", "1"]);
    wait_for(&root.path().join(".aufs2dm/journal"));
    let (ended, ()) = stopped(child, || fs::remove_file(tool.pid_file()).unwrap());
    ended.expect(0, &[]);
    assert!(!tool.pid_file().exists());
}

#[test]
fn all_pid_files_that_a_daemon_could_use_are_held_and_let_go() {
    let (tool, root) = (Tool::new(), root_with_data());
    let host = tool.host_root();
    let at = |path: &str| host.join(path);
    let held = [
        "var/run/docker.pid",
        "srv/json.pid",
        "srv/unit.pid",
        "run/user/7/docker.pid",
        "run/snap.docker/docker.pid",
    ];
    for path in held {
        fs::create_dir_all(at(path).parent().unwrap()).unwrap();
    }
    // Left by a daemon that was killed.
    write(&at("srv/json.pid"), "4194304");
    write(&at("srv/precious"), &"1".repeat(100));
    write(
        &at("etc/docker/daemon.json"),
        r#"{"pidfile": "/srv/json.pid"}"#,
    );
    write(
        &at("lib/systemd/system/docker.service"),
        "[Service]\nEnvironmentFile=/etc/more\nExecStart=/usr/bin/dockerd $A\n",
    );
    write(&at("etc/more"), "A=-p /srv/unit.pid\n");
    write(
        &at("etc/default/docker"),
        "DOCKER_OPTS=--pidfile=/srv/precious\n",
    );
    write(
        &at("etc/sysconfig/docker"),
        "OPTIONS='--pidfile /closed/x.pid'\n",
    );
    fs::create_dir(at("closed")).unwrap();
    let none: Option<&str> = None;
    let flags = MsFlags::MS_RDONLY;
    mount(none, &at("closed"), Some("tmpfs"), flags, none).unwrap();
    let child = tool.start(&root.path(), &["--jobs", "1"]);
    let pid = child.id().to_string();
    wait_for(&root.path().join(".aufs2dm/journal"));
    let (ended, texts) = stopped(child, || {
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        let mut texts: Vec<_> = held.iter().map(|path| read(at(path))).collect();
        texts.push(read(tool.pid_file()));
        texts
    });
    let closed = fs::read_dir(at("closed")).unwrap().count();
    umount(&at("closed")).unwrap();
    ended.expect(0, &["srv/precious: is not a pid file"]);
    assert_eq!(texts, vec![pid; held.len() + 1]);
    assert_eq!(closed, 0);
    for path in held {
        assert!(!at(path).exists(), "{path}");
    }
    assert!(!tool.pid_file().exists());
    assert_eq!(fs::read_to_string(at("srv/precious")).unwrap().len(), 100);
}

#[test]
fn a_live_daemon_in_any_pid_file_refuses_and_a_dry_run_says_so() {
    let daemon = Daemon::start(&["--data-root", "/somewhere/else"]);
    for (file, text, pid_file) in [
        (
            "etc/docker/daemon.json",
            r#"{"pidfile": "/srv/d.pid"}"#,
            "srv/d.pid",
        ),
        (
            "etc/default/docker",
            "DOCKER_OPTS=\"--pidfile=/srv/d.pid\"\n",
            "srv/d.pid",
        ),
        ("etc/any", "", "var/run/docker.pid"),
        ("etc/any", "", "run/user/1000/docker.pid"),
        ("etc/any", "", "var/snap/docker/471/run/docker.pid"),
    ] {
        let (tool, root) = (Tool::new(), small_root());
        let pid_file = tool.host_root().join(pid_file);
        write(&tool.host_root().join(file), text);
        write(&pid_file, &daemon.pid());
        let before = contents(&root.path());
        for verb in ["convert", "verify", "rollback"] {
            let ended = tool.run(verb, &root.path(), &[]);
            ended.expect(
                1,
                &[
                    "docker is running",
                    &daemon.pid(),
                    pid_file.to_str().unwrap(),
                ],
            );
        }
        let planned = tool.run("convert", &root.path(), &["--dry-run"]);
        planned.expect(0, &["docker is running", pid_file.to_str().unwrap()]);
        assert_eq!(fs::read_to_string(&pid_file).unwrap(), daemon.pid());
        assert_same(&before, &contents(&root.path()));
        assert!(!tool.pid_file().exists());
    }
}

/// A root whose aufs side takes a while to look at.
fn many_directories() -> AufsRoot {
    let root = AufsRoot::new()
        .layer("base", |l| l.file("etc/motd", "hello"))
        .image("lab/base:1", "base");
    for n in 0..6000 {
        fs::create_dir(root.branch("base").join(format!("d{n}"))).unwrap();
    }
    root
}

/// Whether a process reads in the branches: it has looked for signs of life then, and compares what may be removed.
fn reads_branches(child: &Child) -> bool {
    let fds = fs::read_dir(format!("/proc/{}/fd", child.id()));
    let links = fds.into_iter().flatten().flatten();
    links
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .any(|path| path.to_string_lossy().contains("/aufs/diff/"))
}

#[test]
fn rollback_and_commit_look_again_before_anything_is_moved() {
    let (tool, root) = (Tool::new(), many_directories());
    let root = root.path();
    tool.run("convert", &root, &[]).expect(0, &[]);
    tool.run("verify", &root, &["--full"]).expect(0, &[]);
    let before = contents(&root);
    for (verb, options) in [("rollback", &[][..]), ("commit", &["--yes"])] {
        let mut command = tool.command(verb, &root, options);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let began = Instant::now();
        while !reads_branches(&child) {
            assert!(began.elapsed() < Duration::from_secs(60), "{verb}");
        }
        let flags = ["--data-root", root.to_str().unwrap()];
        let (ended, daemon) = stopped(child, || Daemon::start(&flags));
        let next = format!("aufs2dm {verb} --root {}", root.display());
        ended.expect(1, &["uses this root", "nothing was moved", &next]);
        assert_same(&before, &contents(&root));
        drop(daemon);
    }
    tool.run("rollback", &root, &[]).expect(0, &[]);
    assert!(!root.join("devicemapper").exists());
}
