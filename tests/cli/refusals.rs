//! Roots that are not to be converted, or not now.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::run::{Ended, Tool, large_root, small_root};
use super::support::fixture::unpack;
use super::support::trace::{assert_same, contents, trace_but_reads};
use crate::support::scratch::scratch;

#[test]
fn a_device_that_dockers_settings_cannot_name_is_refused() {
    let (tool, root) = (Tool::new(), small_root());
    let before = contents(&root.path());
    for option in ["--thin-pool", "--data-device"] {
        for dry in [&["--dry-run"][..], &[]] {
            let mut command = tool.command("convert", &root.path(), dry);
            command
                .arg(option)
                .arg(OsStr::from_bytes(b"/dev/pool-\xff"));
            if option == "--data-device" {
                command.args(["--metadata-device", "/dev/metadata"]);
            }
            Ended::new(&command.output().unwrap()).expect(
                1,
                &[
                    "/dev/pool-\\xff",
                    "is not UTF-8",
                    "`ln -s $'/dev/pool-\\xff' ",
                ],
            );
            assert_same(&before, &contents(&root.path()));
        }
    }
}

#[test]
fn what_is_no_aufs_root_is_called_what_it_is() {
    let (tool, dir) = (Tool::new(), scratch());
    let make = |name: &str| {
        fs::create_dir_all(dir.path().join(name)).unwrap();
    };
    make("empty");
    make("new/overlay2");
    make("new/image/overlay2");
    File::create(dir.path().join("file")).unwrap();
    for (name, words) in [
        ("typo", "no such directory"),
        ("file", "not a directory"),
        ("empty", "not an aufs root"),
        ("new", "it has overlay2"),
    ] {
        for verb in ["convert", "inspect"] {
            tool.run(verb, &dir.path().join(name), &[])
                .expect(1, &[name, words]);
        }
    }
    assert!(!tool.pid_file().exists());
}

#[test]
fn the_layout_before_docker_1_10_is_refused_by_name() {
    let (tool, dir) = (Tool::new(), unpack("docker-1.9-graph.tgz"));
    let root = find(dir.path(), "graph").expect("the fixture has a graph");
    tool.run("convert", &root, &[])
        .expect(1, &["graph/", "not supported"]);
}

fn find(dir: &Path, name: &str) -> Option<std::path::PathBuf> {
    if dir.join(name).is_dir() {
        return Some(dir.to_owned());
    }
    let dirs = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    dirs.filter(|path| path.is_dir() && !path.is_symlink())
        .find_map(|path| find(&path, name))
}

#[test]
fn a_second_conversion_says_that_it_is_done_and_changes_nothing() {
    let (tool, root) = (Tool::new(), small_root());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    let before = trace_but_reads(&root.path());
    for options in [&[][..], &["--dry-run"]] {
        let again = tool.run("convert", &root.path(), options);
        again.expect(0, &["is already converted", "aufs2dm status"]);
        assert_eq!(again.out, "");
    }
    assert_same(&before, &trace_but_reads(&root.path()));
}

#[test]
fn a_devicemapper_root_of_dockers_own_is_refused() {
    let (tool, root) = (Tool::new(), small_root());
    fs::create_dir_all(root.path().join("devicemapper/metadata")).unwrap();
    let before = contents(&root.path());
    tool.run("convert", &root.path(), &[])
        .expect(1, &["devicemapper", "already"]);
    assert_same(&before, &contents(&root.path()));
}

#[test]
fn an_image_store_in_the_way_is_named() {
    let (tool, root) = (Tool::new(), small_root());
    fs::create_dir_all(root.path().join("image/devicemapper/layerdb")).unwrap();
    tool.run("convert", &root.path(), &[])
        .expect(1, &["image/devicemapper", "already"]);
}

#[test]
fn a_live_daemon_in_the_pid_file_refuses_and_a_stale_one_does_not() {
    let (tool, root) = (Tool::new(), small_root());
    let dir = scratch();
    let dockerd = dir.path().join("dockerd");
    // By another program: a file that a test's other thread still had open for writing could not be run.
    let copied = Command::new("cp").arg("/bin/sleep").arg(&dockerd).status();
    assert!(copied.unwrap().success());
    let mut daemon = Command::new(&dockerd).arg("100").spawn().unwrap();
    fs::write(tool.pid_file(), daemon.id().to_string()).unwrap();
    let before = contents(&root.path());
    let refused = tool.run("convert", &root.path(), &[]);
    let planned = tool.run("convert", &root.path(), &["--dry-run"]);
    let kept = fs::read_to_string(tool.pid_file()).unwrap();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    refused.expect(1, &["docker is running", &daemon.id().to_string()]);
    planned.expect(0, &["docker is running"]);
    assert_eq!(kept, daemon.id().to_string());
    assert_same(&before, &contents(&root.path()));
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    assert!(!tool.pid_file().exists());
}

#[test]
fn a_database_that_a_daemon_has_locked_refuses() {
    let (tool, root) = (Tool::new(), small_root());
    let database = root.path().join("volumes/metadata.db");
    let file = File::create(&database).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();
    tool.run("convert", &root.path(), &[])
        .expect(1, &["docker is running", "volumes/metadata.db"]);
    assert!(!tool.pid_file().exists());
    drop(lock);
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
}

#[test]
fn of_two_runs_the_second_is_refused_whatever_pid_file_it_is_told() {
    let (tool, other, root) = (Tool::new(), Tool::new(), large_root());
    let mut first = tool.start(&root.path(), &["--jobs", "1"]);
    super::interrupted::wait_for(&root.path().join(".aufs2dm"));
    let pid = Pid::from_raw(first.id().try_into().unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    assert_eq!(
        first.try_wait().unwrap(),
        None,
        "the first run was too fast to tell"
    );
    let held = fs::read_to_string(tool.pid_file()).unwrap();
    let same = tool.run("convert", &root.path(), &[]);
    let second = other.run("convert", &root.path(), &[]);
    kill(pid, Signal::SIGCONT).unwrap();
    assert_eq!(held, first.id().to_string());
    assert!(first.wait().unwrap().success());
    same.expect(1, &["another aufs2dm is at work"]);
    second.expect(1, &["another aufs2dm is at work"]);
    assert!(!tool.pid_file().exists());
}

#[test]
fn a_mount_point_that_hinders_the_renames_is_found_before_anything_is_written() {
    let (tool, root) = (Tool::new(), small_root());
    let point = root.path().join("image");
    let none: Option<&str> = None;
    mount(Some(&point), &point, none, MsFlags::MS_BIND, none).unwrap();
    let ended = tool.run("convert", &root.path(), &[]);
    umount(&point).unwrap();
    ended.expect(1, &["image", "mount point", "unmount it"]);
    assert!(!ended.err.contains("writing data"), "{}", ended.err);
    assert!(!root.path().join(".aufs2dm").exists());
}
