//! The tracer itself, and that what it does is done.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;

use super::place::Place;
use super::support::reduced::whole;
use super::support::tree::Tree;
use super::tracer::{Fault, Moment, Traced, run};

fn shell(script: &str, dir: &Path, fault: Option<(Fault, &str)>) -> Traced {
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(dir);
    let fault = fault.map(|(fault, call)| (fault, Moment { call, before: 0 }));
    run(command, fault, &[(dir, "@")]).unwrap()
}

/// Makes a directory and a file, reads, and starts other programs for half of it.
const SCRIPT: &str =
    "mkdir one; printf 0123456789 >two; cat two >/dev/null; ln two three; echo said; rm three";

#[test]
fn calls_that_change_something_are_counted_in_all_processes_and_no_others_are() {
    let dir = tempfile::tempdir().unwrap();
    let traced = shell(SCRIPT, dir.path(), None);
    assert_eq!(traced.code, Some(0), "{traced:?}");
    assert_eq!(traced.out, "said\n");
    let expected = [
        "mkdir one",
        "openat two",
        "write @/two",
        "openat /dev/null",
        "linkat two three",
        "unlinkat three",
    ];
    assert_eq!(traced.calls, expected);
}

#[test]
fn a_call_that_fails_is_not_made_and_the_next_ones_are() {
    let dir = tempfile::tempdir().unwrap();
    let traced = shell(
        SCRIPT,
        dir.path(),
        Some((Fault::Fail(Errno::ENOSPC), "mkdir one")),
    );
    assert!(traced.err.contains("No space left"), "{traced:?}");
    assert!(!dir.path().join("one").exists());
    assert_eq!(fs::read(dir.path().join("two")).unwrap(), b"0123456789");
}

#[test]
fn after_the_first_call_that_fails_for_good_none_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let traced = shell(
        SCRIPT,
        dir.path(),
        Some((Fault::FailFrom(Errno::EROFS), "openat two")),
    );
    assert!(traced.err.contains("Read-only"), "{traced:?}");
    assert!(dir.path().join("one").exists());
    assert!(!dir.path().join("two").exists());
}

#[test]
fn a_killed_process_makes_all_calls_before_the_one_and_not_that_one() {
    let dir = tempfile::tempdir().unwrap();
    // `exec`, so that the process that is killed is the one that makes the call.
    let script = "printf 0123456789 >two; exec mkdir one";
    let traced = shell(script, dir.path(), Some((Fault::Kill, "mkdir one")));
    assert_eq!((traced.code, traced.calls.len()), (None, 3), "{traced:?}");
    assert!(!dir.path().join("one").exists());
    assert_eq!(fs::read(dir.path().join("two")).unwrap(), b"0123456789");
}

#[test]
fn after_a_call_that_fails_the_process_can_be_killed_so_many_calls_later() {
    let dir = tempfile::tempdir().unwrap();
    let fault = Fault::FailThenKill(Errno::EIO, 3);
    let traced = shell(SCRIPT, dir.path(), Some((fault, "mkdir one")));
    assert_eq!((traced.code, traced.calls.len()), (None, 4), "{traced:?}");
    assert!(!dir.path().join("one").exists());
    assert!(dir.path().join("two").exists());
}

#[test]
fn a_torn_call_writes_half() {
    let dir = tempfile::tempdir().unwrap();
    let traced = shell(SCRIPT, dir.path(), Some((Fault::Tear, "write @/two")));
    assert_eq!(traced.code, None, "{traced:?}");
    assert_eq!(fs::read(dir.path().join("two")).unwrap(), b"01234");
}

#[test]
fn a_tree_that_is_put_down_again_differs_in_nothing() {
    let place = Place::new().unwrap();
    let original = whole().unwrap();
    place.put(&original).unwrap();
    let again = Tree::read(&place.root()).unwrap();
    assert_eq!(original.differences(&again, |_| false), [""; 0]);
    let file = place.root().join("image/aufs/repositories.json");
    fs::write(&file, fs::read(&file).unwrap()).unwrap();
    let touched = Tree::read(&place.root()).unwrap();
    assert_eq!(original.differences(&touched, |_| false).len(), 1);
}

#[test]
fn a_call_is_met_by_what_it_is_and_how_often_it_was_made_before() {
    let dir = tempfile::tempdir().unwrap();
    let calls = ["mkdir a", "rmdir a", "mkdir a"].map(str::to_owned);
    let moment = Moment::of(&calls, 2);
    let mut command = Command::new("sh");
    command
        .args(["-c", "mkdir a; rmdir a; exec mkdir a"])
        .current_dir(dir.path());
    let traced = run(command, Some((Fault::Kill, moment)), &[]).unwrap();
    assert_eq!((traced.code, traced.met), (None, Some(2)), "{traced:?}");
    assert!(!dir.path().join("a").exists());
}
