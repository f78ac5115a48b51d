//! What a run would refuse is told by the dry run, and by the run before it writes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount, umount};

use super::run::{Ended, Tool, small_root};
use super::support::root::{AufsRoot, container_id};
use super::support::trace::{assert_same, contents};
use super::support::unmounted::wait_until_nobody_sees;
use crate::support::scratch::scratch;

const NONE: Option<&str> = None;

/// Something mounted; unmounted when dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    pub(crate) fn tmpfs(at: &Path) -> Self {
        mount(Some("none"), at, Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
        Self(at.to_owned())
    }

    pub(crate) fn bind(from: &Path, at: &Path) -> Self {
        mount(Some(from), at, NONE, MsFlags::MS_BIND, NONE).unwrap();
        Self(at.to_owned())
    }

    pub(crate) fn read_only(at: &Path) -> Self {
        let mounted = Self::bind(at, at);
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(NONE, at, NONE, flags, NONE).unwrap();
        mounted
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A command of another test may look at all mounts just now.
        let began = std::time::Instant::now();
        while let Err(errno) = umount(&self.0) {
            let busy = errno == nix::errno::Errno::EBUSY;
            assert!(busy && began.elapsed().as_secs() < 60, "{errno}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        wait_until_nobody_sees(&self.0);
    }
}

/// `chattr +i` or `+a`, taken away when dropped; `None` where the file system has no such flags.
pub(crate) struct Flagged(PathBuf);

impl Flagged {
    pub(crate) fn new(letter: char, path: &Path) -> Option<Self> {
        let set = Command::new("chattr")
            .arg(format!("+{letter}"))
            .arg(path)
            .output();
        set.unwrap().status.success().then(|| Self(path.to_owned()))
    }
}

impl Drop for Flagged {
    fn drop(&mut self) {
        let gone = Command::new("chattr").arg("-ia").arg(&self.0).status();
        assert!(gone.unwrap().success());
    }
}

/// Fails unless the dry run and the run refuse with the same words, before anything is written.
#[track_caller]
fn expect_refused(tool: &Tool, root: &Path, options: &[&str], words: &[&str]) -> Ended {
    let before = contents(root);
    let dry = tool.run("convert", root, &[options, &["--dry-run"]].concat());
    dry.expect(1, words);
    let run = tool.run("convert", root, options);
    run.expect(1, words);
    assert!(!run.err.contains("writing data"), "{}", run.err);
    assert!(!root.join(".aufs2dm").exists());
    assert_same(&before, &contents(root));
    run
}

fn write(tool: &Tool, path: &str, text: &str) -> PathBuf {
    let path = tool.host_root().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

const CONFIG: &str = "etc/docker/daemon.json";

#[test]
fn a_daemon_that_cannot_be_told_is_a_refusal_with_what_to_do_by_hand() {
    for (path, text, word) in [
        (CONFIG, "{ # comment\n}", "daemon.json, line 1"),
        (CONFIG, "\u{feff}{}", "daemon.json"),
        (
            CONFIG,
            "{\"storage-driver\": \"aufs\", \"storage-driver\": \"aufs\"}",
            "daemon.json",
        ),
        (
            "etc/systemd/system/docker.service",
            "[Service]\nExecStart=/usr/bin/dockerd -s aufs\n",
            "replace `-s aufs`",
        ),
        (
            "etc/systemd/system/docker.service.d/10-machine.conf",
            "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd --storage-driver aufs\n",
            "10-machine.conf",
        ),
        (
            "etc/systemd/system/docker-default.service",
            "[Service]\nExecStart=/usr/bin/dockerd --storage-driver=aufs\n",
            "docker-default.service",
        ),
        (
            "etc/hostname",
            "h",
            "nothing on this host shows what starts Docker",
        ),
    ] {
        let (tool, root) = (Tool::new(), small_root());
        if ["docker-default", "hostname"]
            .iter()
            .any(|one| path.contains(one))
        {
            fs::remove_file(tool.host_root().join(Tool::UNIT)).unwrap();
        }
        let file = write(&tool, path, text);
        let words = [
            "--switch-daemon",
            word,
            "run again without --switch-daemon",
            "nothing was written",
        ];
        expect_refused(&tool, &root.path(), &["--switch-daemon"], &words);
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        tool.run("convert", &root.path(), &[]).expect(0, &[]);
    }
}

#[test]
fn a_daemon_json_that_cannot_be_replaced_is_found_first() {
    let (tool, root) = (Tool::new(), small_root());
    let config = write(&tool, CONFIG, "{}");
    let original = write(
        &tool,
        "etc/docker/daemon.json.aufs2dm-original",
        "{\"debug\": true}",
    );
    let refused = |words: &[&str]| {
        expect_refused(&tool, &root.path(), &["--switch-daemon"], words);
        assert_eq!(fs::read_to_string(&config).unwrap(), "{}");
    };
    refused(&["daemon.json.aufs2dm-original", "move it away"]);
    fs::remove_file(original).unwrap();
    let etc = tool.host_root().join("etc");
    {
        let _mounted = Mounted::read_only(&etc);
        refused(&["etc/docker", "read-only file system"]);
    }
    {
        let _mounted = Mounted::bind(&config, &config);
        refused(&["daemon.json", "is a mount point"]);
    }
    for path in [config.clone(), etc.join("docker")] {
        for letter in ['i', 'a'] {
            if let Some(_flag) = Flagged::new(letter, &path) {
                refused(&[&format!("chattr -{letter} {}", path.display())]);
            }
        }
    }
    tool.run("convert", &root.path(), &["--switch-daemon"])
        .expect(0, &[]);
    assert!(
        fs::read_to_string(&config)
            .unwrap()
            .contains("devicemapper")
    );
}

fn places_to_be_changed(root: &AufsRoot) -> Vec<PathBuf> {
    let container = root.path().join("containers").join(container_id("web"));
    vec![
        root.path(),
        root.path().join("image"),
        container.join("config.v2.json"),
        container,
    ]
}

#[test]
fn frozen_files_and_directories_that_have_to_be_changed_are_all_named_at_once() {
    let (tool, root) = (Tool::new(), small_root());
    let mut flags = Vec::new();
    let mut words = Vec::new();
    for (path, letter) in places_to_be_changed(&root)
        .into_iter()
        .zip(['i', 'a', 'i', 'a'])
    {
        let Some(flag) = Flagged::new(letter, &path) else {
            return;
        };
        words.push(format!("chattr -{letter} {}", path.display()));
        flags.push(flag);
    }
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    expect_refused(&tool, &root.path(), &[], &words);
    flags.clear();
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
}

#[test]
fn containers_whose_file_system_is_not_mounted_are_never_left_behind() {
    let (tool, root, elsewhere) = (Tool::new(), small_root(), scratch());
    let point = root.path().join("containers");
    let moved = elsewhere.path().join("containers");
    let mut cp = Command::new("cp");
    cp.arg("-a").args([&point, &moved]);
    assert!(cp.status().unwrap().success());
    fs::remove_dir_all(&point).unwrap();
    fs::create_dir(&point).unwrap();
    let words = ["containers: is empty", "is its file system mounted?"];
    expect_refused(&tool, &root.path(), &[], &words);
    {
        // Nor with another in its place.
        let _mounted = Mounted::tmpfs(&point);
        expect_refused(&tool, &root.path(), &[], &words);
    }
    fs::remove_dir(&point).unwrap();
    fs::rename(&moved, &point).unwrap();
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
}

#[test]
fn volumes_and_the_build_cache_may_be_behind_links() {
    for (name, is_dangling) in [
        ("volumes", false),
        ("volumes", true),
        ("buildkit", false),
        ("buildkit", true),
    ] {
        let (tool, root) = (Tool::new(), small_root());
        let (link, target) = (
            root.path().join(name),
            root.path().with_file_name("elsewhere"),
        );
        let _ = fs::remove_dir_all(&link);
        if !is_dangling {
            fs::create_dir(&target).unwrap();
            fs::write(target.join("metadata.db"), "").unwrap();
        }
        symlink("../elsewhere", &link).unwrap();
        tool.run("inspect", &root.path(), &[]).expect(0, &[]);
        tool.run("convert", &root.path(), &["--dry-run"])
            .expect(0, &[]);
        tool.run("convert", &root.path(), &[]).expect(0, &[]);
        tool.run("verify", &root.path(), &[]);
        tool.run("rollback", &root.path(), &[]).expect(0, &[]);
        assert!(link.is_symlink());
    }
}

#[test]
fn what_is_replaced_behind_a_link_is_refused_by_all_alike_with_a_way_on() {
    for name in ["containers", "image"] {
        let (tool, root) = (Tool::new(), small_root());
        let (link, target) = (
            root.path().join(name),
            root.path().with_file_name("elsewhere"),
        );
        fs::rename(&link, &target).unwrap();
        symlink("../elsewhere", &link).unwrap();
        let words = [name, "symbolic link", "cp -a"];
        tool.run("inspect", &root.path(), &[]).expect(0, &[]);
        let health = tool.run("inspect", &root.path(), &["--health"]);
        health.expect(3, &[]);
        assert!(
            words.iter().all(|word| health.out.contains(word)),
            "{health:?}"
        );
        let refused = expect_refused(&tool, &root.path(), &[], &words);
        let way_on = refused.err.split('`').nth(1).unwrap();
        assert!(
            Command::new("sh")
                .args(["-c", way_on])
                .status()
                .unwrap()
                .success()
        );
        tool.run("convert", &root.path(), &[]).expect(0, &[]);
    }
}

#[test]
fn a_process_that_may_not_write_large_files_is_refused() {
    let (tool, root) = (Tool::new(), small_root());
    let limited = |options: &[&str]| {
        let run = tool.command("convert", &root.path(), options);
        let mut shell = Command::new("bash");
        shell.args(["-c", "ulimit -f 4096; exec \"$@\"", "bash"]);
        shell.arg(run.get_program()).args(run.get_args());
        Ended::new(&shell.output().unwrap())
    };
    for options in [&["--dry-run"][..], &[]] {
        limited(options).expect(1, &["at most 4.0 MiB", "ulimit -f unlimited"]);
        assert!(!root.path().join(".aufs2dm").exists());
    }
}

#[test]
fn a_read_only_root_and_what_else_is_wrong_are_told_at_once_with_the_plan() {
    let (tool, root) = (Tool::new(), small_root());
    let before = contents(&root.path());
    let planned = {
        let _mounted = Mounted::read_only(&root.path());
        tool.run(
            "convert",
            &root.path(),
            &["--dry-run", "--data-size", "64M", "--json"],
        )
    };
    planned.expect(1, &["read-only file system", "remount,rw"]);
    let plan: serde_json::Value = serde_json::from_str(&planned.out).unwrap();
    assert_eq!(plan["obstacles"].as_array().unwrap().len(), 1, "{plan}");
    assert_same(&before, &contents(&root.path()));
}
