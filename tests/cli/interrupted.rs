//! Runs that are stopped, and files that change under one.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::run::{Ended, Tool, large_root};
use super::support::trace::{assert_same, contents};

pub(crate) fn wait_for(path: &Path) {
    let began = Instant::now();
    while !path.exists() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{}",
            path.display()
        );
        sleep(Duration::from_micros(200));
    }
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

#[test]
fn a_signal_while_data_is_written_leaves_the_root_as_it_was() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let (tool, root) = (Tool::new(), large_root());
        let before = contents(&root.path());
        let child = tool.start(&root.path(), &["--jobs", "1"]);
        wait_for(&root.path().join(".aufs2dm/devicemapper/devicemapper/data"));
        send(&child, signal);
        let ended = Ended::new(&child.wait_with_output().unwrap());
        ended.expect(4, &["interrupted"]);
        assert_same(&before, &contents(&root.path()));
        assert!(!tool.pid_file().exists());
    }
}

#[test]
fn a_signal_while_layers_are_read_leaves_the_root_as_it_was() {
    let (tool, root) = (Tool::new(), large_root());
    for n in 0..40_000 {
        fs::write(root.branch("base").join(format!("f{n}")), "").unwrap();
    }
    let before = contents(&root.path());
    let child = tool.start(&root.path(), &["--jobs", "1"]);
    wait_for(&tool.pid_file());
    assert_eq!(
        fs::read_to_string(tool.pid_file()).unwrap(),
        child.id().to_string()
    );
    send(&child, Signal::SIGINT);
    let ended = Ended::new(&child.wait_with_output().unwrap());
    ended.expect(4, &["interrupted"]);
    assert!(!ended.err.contains("writing data"), "{}", ended.err);
    assert_same(&before, &contents(&root.path()));
    assert!(!tool.pid_file().exists());
}

#[test]
fn what_a_killed_run_left_is_reported_and_replaced() {
    let (tool, root) = (Tool::new(), large_root());
    let mut child = tool.start(&root.path(), &["--jobs", "1"]);
    wait_for(&root.path().join(".aufs2dm/devicemapper/devicemapper/data"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(root.path().join(".aufs2dm").exists());
    let plan = tool.run("convert", &root.path(), &["--dry-run"]);
    plan.expect(0, &[".aufs2dm", "would be replaced"]);
    let again = tool.run("convert", &root.path(), &[]);
    again.expect(0, &[".aufs2dm", "left behind by an interrupted run"]);
    assert!(!root.path().join(".aufs2dm/devicemapper").exists());
    assert!(root.path().join("devicemapper/metadata/base").exists());
    assert!(!tool.pid_file().exists());
}

#[test]
fn a_file_that_changes_or_goes_while_data_is_written_is_named() {
    for goes in [false, true] {
        let (tool, root) = (Tool::new(), large_root());
        let child = tool.start(&root.path(), &["--jobs", "1"]);
        wait_for(&root.path().join(".aufs2dm/devicemapper/devicemapper/data"));
        let last = root.branch("base").join("blob047");
        if goes {
            fs::remove_file(&last).unwrap();
        } else {
            let mut file = OpenOptions::new().append(true).open(&last).unwrap();
            file.write_all(b"more").unwrap();
        }
        let ended = Ended::new(&child.wait_with_output().unwrap());
        ended.expect(1, &["/blob047", "changed after"]);
        assert!(!root.path().join(".aufs2dm").exists());
        assert!(!root.path().join("devicemapper").exists());
        assert!(!tool.pid_file().exists());
    }
}
