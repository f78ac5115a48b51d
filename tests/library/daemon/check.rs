//! Is Docker running? Each sign by itself, with a made-up process table.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::fs;
use std::fs::File;
use std::path::Path;

use aufs2dm::daemon::{Finding, Hold, Host, Notice, PidFileLock, RunningDocker, check_stopped};
use nix::fcntl::{Flock, FlockArg};

use crate::docker::{SmallRoot, WEB};

struct Machine {
    root: SmallRoot,
    temp: tempfile::TempDir,
    host: Host,
}

impl Machine {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            fs::create_dir(temp.path().join(name)).unwrap();
            temp.path().join(name)
        };
        let host = Host {
            proc: at("proc"),
            sys_aufs: at("sys"),
            pid_file: at("run").join("docker.pid"),
            root: at("host"),
        };
        let machine = Self {
            root: SmallRoot::new(),
            temp,
            host,
        };
        machine.process(1, "/sbin/init");
        machine
    }

    fn process(&self, pid: u32, line: &str) {
        fs::create_dir_all(self.host.proc.join(pid.to_string())).unwrap();
        self.process_file(pid, "cmdline", &line.replace(' ', "\0"));
    }

    fn process_file(&self, pid: u32, name: &str, text: &str) {
        fs::write(self.host.proc.join(pid.to_string()).join(name), text).unwrap();
    }

    fn findings(&self) -> Vec<Finding> {
        match check_stopped(self.root.open().data_dir(), &self.host) {
            Ok(_) => Vec::new(),
            Err(RunningDocker::Found { findings }) => findings,
            Err(error) => panic!("{error}"),
        }
    }

    /// The root's path as the kernel would print it.
    fn root_path(&self) -> String {
        self.root
            .path
            .canonicalize()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    }
}

#[test]
fn a_stopped_docker_is_no_obstacle() {
    let machine = Machine::new();
    assert_eq!(
        check_stopped(machine.root.open().data_dir(), &machine.host).unwrap(),
        []
    );
    fs::write(&machine.host.pid_file, "12345").unwrap();
    assert_eq!(machine.findings(), []);
    machine.process(12345, "/usr/bin/vi docker"); // the number went to someone else
    assert_eq!(machine.findings(), []);
}

#[test]
fn a_daemon_in_the_pid_file_is_found() {
    let machine = Machine::new();
    machine.process(50, "/usr/bin/dockerd --data-root /elsewhere");
    assert_eq!(machine.findings(), []);
    fs::write(&machine.host.pid_file, "50").unwrap();
    let findings = machine.findings();
    assert_eq!(
        findings,
        [Finding::PidFile {
            pid: 50,
            pid_file: machine.host.pid_file.clone()
        }]
    );
    assert!(
        findings[0]
            .to_string()
            .contains("stop docker and docker.socket")
    );
}

#[test]
fn a_daemon_with_another_pid_file_is_found_by_its_root() {
    let machine = Machine::new();
    let root = machine.root_path();
    machine.process(
        50,
        &format!("/usr/bin/dockerd -p /x.pid --data-root {root}"),
    );
    std::os::unix::fs::symlink("/", machine.host.proc.join("50/root")).unwrap();
    assert_eq!(machine.findings(), [Finding::Daemon { pid: 50 }]);
}

#[test]
fn held_database_locks_are_found_and_left() {
    let machine = Machine::new();
    for path in ["volumes/metadata.db", "buildkit/snapshots.db"] {
        let file = File::options()
            .read(true)
            .write(true)
            .open(machine.root.at(path))
            .unwrap();
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();
        let findings = machine.findings();
        assert!(
            matches!(&findings[..], [Finding::Locked { path: found }] if found.ends_with(path)),
            "{findings:?}"
        );
        drop(lock);
        assert_eq!(machine.findings(), []);
    }
}

#[test]
fn layers_mounted_in_any_namespace_are_found_once() {
    let machine = Machine::new();
    let root = machine.root_path();
    let line =
        |kind: &str, path: &str| format!("30 1 0:40 / {root}{path} rw - {kind} none rw,si=1\n");
    for pid in [60, 61] {
        machine.process(pid, "/usr/bin/thing");
        machine.process_file(pid, "mountinfo", &line("aufs", "/aufs/mnt/abc"));
    }
    machine.process(62, "/usr/bin/other");
    machine.process_file(
        62,
        "mountinfo",
        &(line("tmpfs", "/aufs/mnt/abd") + &line("aufs", "/aufs/mntx/abe")),
    );
    let findings = machine.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(
        matches!(&findings[0], Finding::Mounted { mount_point, .. } if mount_point.ends_with("aufs/mnt/abc"))
    );
}

#[test]
fn branches_of_live_aufs_mounts_are_found() {
    let machine = Machine::new();
    let layer = fs::read_dir(machine.root.at("aufs/diff"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let si = machine.host.sys_aufs.join("si_c0ffee");
    fs::create_dir(&si).unwrap();
    fs::write(
        si.join("br0"),
        format!("{}=rw\n", layer.path().canonicalize().unwrap().display()),
    )
    .unwrap();
    fs::write(si.join("br1"), "/other/aufs/diff/x=ro+wh\n").unwrap();
    fs::write(si.join("brid0"), "64\n").unwrap();
    let findings = machine.findings();
    assert!(
        matches!(&findings[..], [Finding::BranchInUse { .. }]),
        "{findings:?}"
    );

    // The same branch by another way to the same directory.
    let alias = machine.temp.path().join("alias");
    std::os::unix::fs::symlink(machine.root.at("aufs"), &alias).unwrap();
    fs::write(
        si.join("br0"),
        format!(
            "{}=rw\n",
            alias.join("diff").join(layer.file_name()).display()
        ),
    )
    .unwrap();
    assert_eq!(machine.findings().len(), 1);
}

#[test]
fn containers_that_outlive_the_daemon_are_found() {
    let machine = Machine::new();
    machine.process(70, "sleep 1000");
    machine.process_file(70, "cgroup", &format!("1:name=systemd:/docker/{WEB}\n"));
    let findings = machine.findings();
    assert!(
        matches!(&findings[..], [Finding::Container { name, pid: 70, .. }] if name == "shop_web_1")
    );
    machine.process_file(
        70,
        "cgroup",
        &format!("1:name=systemd:/docker/{}\n", "0".repeat(64)),
    );
    assert_eq!(machine.findings(), [], "a container of another root");
}

#[test]
fn a_pid_that_went_to_someone_else_is_no_container() {
    let machine = Machine::new();
    let path = format!("containers/{WEB}/config.v2.json");
    let config = machine.root.read(&path);
    machine
        .root
        .write(&path, config.replace(r#""Pid":0"#, r#""Pid":70"#));
    machine.process(70, "sleep 1000");
    machine.process_file(70, "status", "Name:\tsleep\nPPid:\t1\n");
    assert_eq!(machine.findings(), []);
    machine.process(69, &format!("containerd-shim -namespace moby -id {WEB}"));
    machine.process_file(70, "status", "Name:\tsleep\nPPid:\t69\n");
    assert_eq!(machine.findings().len(), 1);
}

#[test]
fn a_directory_mounted_on_itself_is_noted() {
    let machine = Machine::new();
    let root = machine.root_path();
    machine.process(60, "x");
    fs::create_dir(machine.host.proc.join("self")).unwrap();
    fs::write(
        machine.host.proc.join("self/mountinfo"),
        format!("30 1 8:1 /docker/aufs {root}/aufs rw - ext4 /dev/sda1 rw\n"),
    )
    .unwrap();
    let notices = check_stopped(machine.root.open().data_dir(), &machine.host).unwrap();
    assert_eq!(
        notices,
        [Notice::MountPoint {
            path: Path::new(&root).join("aufs")
        }]
    );
}

#[test]
fn our_own_lock_is_not_taken_for_a_daemon() {
    let machine = Machine::new();
    let Hold::Held(lock) = PidFileLock::acquire(&machine.host.pid_file, &machine.host).unwrap()
    else {
        panic!("the directory is there");
    };
    assert_eq!(machine.findings(), []);
    lock.release().unwrap();
}
