//! What is said of a root while a run works on it, and after that was killed.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::alone::Daemon;
use super::run::{Ended, Tool, large_root, small_root};
use super::support::root::AufsRoot;

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

/// Stops a run as soon as it has told this phase.
pub(crate) fn stop_in(child: &Child, root: &Path, phase: &str) {
    let wanted = format!(r#""pid":{},"phase":"{phase}""#, child.id());
    let began = Instant::now();
    let told = || fs::read_to_string(root.join(".aufs2dm/progress")).unwrap_or_default();
    while !told().contains(&wanted) {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", told());
        sleep(Duration::from_micros(200));
    }
    send(child, Signal::SIGSTOP);
    assert!(
        told().contains(&wanted),
        "the run was too fast to be stopped"
    );
}

fn status(tool: &Tool, root: &Path) -> (String, Value) {
    let text = tool.run("status", root, &[]);
    text.expect(0, &[]);
    let json = tool.run("status", root, &["--json"]);
    json.expect(0, &[]);
    (text.out, serde_json::from_str(&json.out).unwrap())
}

/// A conversion that was stopped while it wrote data.
fn stopped(tool: &Tool, root: &AufsRoot, options: &[&str]) -> Child {
    let options = [&["--jobs", "1"], options].concat();
    let child = tool.start(&root.path(), &options);
    stop_in(&child, &root.path(), "data");
    child
}

#[test]
fn a_run_that_lives_is_told_with_its_process_and_progress_and_one_that_was_killed_as_interrupted() {
    let (tool, root) = (Tool::new(), large_root());
    let mut child = stopped(&tool, &root, &[]);
    let pid = child.id();
    let (text, json) = status(&tool, &root.path());
    let first = text.lines().next().unwrap();
    for word in [
        &format!("aufs2dm convert is at work on it (process {pid}, for "),
        "stopped",
        "writing data, ",
        " MiB; 0 ",
        "of 2 layers are durable",
    ] {
        assert!(first.contains(word), "{word} is not in {text}");
    }
    assert!(text.contains(&format!("`kill -CONT {pid}` lets it continue")));
    for word in ["resume", "rollback", "interrupted"] {
        assert!(!text.contains(word), "{word} is in {text}");
    }
    let running = &json["running"];
    assert_eq!(
        (&running["pid"], &running["command"], &running["phase"]),
        (&pid.into(), &"convert".into(), &"data".into())
    );
    assert_eq!(
        (&running["layers_all"], &running["stopped"]),
        (&2.into(), &true.into())
    );
    assert!(running["done"].as_u64() <= running["total"].as_u64());
    assert!(running["since"].as_u64().unwrap() > 1_600_000_000);
    assert!(!json["meaning"].as_str().unwrap().contains("rollback"));

    child.kill().unwrap();
    child.wait().unwrap();
    let (text, json) = status(&tool, &root.path());
    for word in ["was interrupted", "resume", "rollback"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    assert!(!text.contains("at work"), "{text}");
    assert_eq!(json["running"], Value::Null);
}

#[test]
fn whoever_comes_second_is_told_who_is_at_work() {
    let (tool, other, root) = (Tool::new(), Tool::new(), large_root());
    let mut child = stopped(&tool, &root, &[]);
    let who = format!(
        "another aufs2dm is at work: aufs2dm convert (process {}, for ",
        child.id()
    );
    let seconds: Vec<_> = ["convert", "resume", "rollback", "commit", "verify"]
        .into_iter()
        .map(|verb| (verb, tool.run(verb, &root.path(), &[])))
        .collect();
    // Another root of the same host.
    let beside = small_root();
    let pid_file = tool.run("convert", &beside.path(), &[]);
    let elsewhere = other.run("convert", &root.path(), &[]);
    send(&child, Signal::SIGCONT);
    child.wait().unwrap();
    for (verb, ended) in &seconds {
        assert_eq!(ended.code, Some(1), "{verb}: {ended:?}");
        for word in [&who, "aufs2dm status --root ", "the same command again"] {
            assert!(
                ended.err.contains(word),
                "{verb}: {word} is not in {ended:?}"
            );
        }
    }
    elsewhere.expect(1, &[&who, "aufs2dm status --root "]);
    pid_file.expect(1, &["docker.pid: ", &who, "the same command again"]);
}

#[test]
fn a_resumed_run_is_told_by_its_own_name() {
    let (tool, root) = (Tool::new(), large_root());
    let mut child = stopped(&tool, &root, &["--checkpoint", "0"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let mut command = tool.command("resume", &root.path(), &["--jobs", "1"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    stop_in(&child, &root.path(), "data");
    let (text, json) = status(&tool, &root.path());
    let words = format!("aufs2dm resume is at work on it (process {}, ", child.id());
    assert!(text.contains(&words), "{text}");
    assert_eq!(json["running"]["command"], "resume");
    send(&child, Signal::SIGCONT);
    assert!(child.wait().unwrap().success());
    let (text, json) = status(&tool, &root.path());
    assert!(text.contains("is converted"), "{text}");
    assert_eq!(json["running"], Value::Null);
    assert!(!root.path().join(".aufs2dm/progress").exists());
}

#[test]
fn another_program_that_holds_the_root_is_told_by_its_name() {
    let (tool, root) = (Tool::new(), small_root());
    let directory = fs::File::open(root.path()).unwrap();
    let held = Flock::lock(directory, FlockArg::LockExclusiveNonblock).unwrap();
    let me = std::process::id();
    let refused = tool.run("convert", &root.path(), &[]);
    refused.expect(1, &["is locked by ", &format!("(process {me}, for ")]);
    assert!(!refused.err.contains("another aufs2dm"), "{refused:?}");
    let (text, json) = status(&tool, &root.path());
    assert!(text.contains(&format!("is at work on it (process {me}")));
    assert_eq!(json["running"]["pid"], me);
    assert!(json["running"].get("command").is_none(), "{json}");
    drop(held);
    let (text, _) = status(&tool, &root.path());
    assert!(text.contains("not converted: `aufs2dm convert"), "{text}");
}

#[test]
fn what_the_staging_directory_tells_is_believed_of_the_process_alone_that_holds_the_root() {
    let (tool, root) = (Tool::new(), large_root());
    let child = stopped(&tool, &root, &[]);
    let file = root.path().join(".aufs2dm/progress");
    fs::write(&file, r#"{"pid":1,"phase":"verify","done":1,"total":2}"#).unwrap();
    let (text, json) = status(&tool, &root.path());
    assert!(text.contains("at work") && !text.contains("verifying"));
    assert!(json["running"].get("phase").is_none(), "{json}");
    send(&child, Signal::SIGKILL);
    drop(child.wait_with_output().unwrap());
}

/// Asks for the status as long as the run goes on: no answer may be an error or call it interrupted. Returns how many met the run.
#[track_caller]
fn ask_until_it_ends(tool: &Tool, root: &Path, mut child: Child) -> u32 {
    let mut met = 0;
    while child.try_wait().unwrap().is_none() {
        let said = tool.run("status", root, &[]);
        said.expect(0, &[]);
        for word in ["interrupted", "lost", "missing"] {
            assert!(!said.out.contains(word), "{said:?}");
        }
        met += u32::from(said.out.contains("is at work on it"));
    }
    Ended::new(&child.wait_with_output().unwrap()).expect(0, &[]);
    met
}

#[test]
fn no_moment_of_a_run_looks_as_if_it_were_interrupted() {
    let (tool, root) = (Tool::new(), large_root());
    let child = tool.start(&root.path(), &["--jobs", "1", "--checkpoint", "0"]);
    let mut met = ask_until_it_ends(&tool, &root.path(), child);
    for (verb, options) in [("verify", &["--full"][..]), ("rollback", &[])] {
        let mut command = tool.command(verb, &root.path(), options);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        met += ask_until_it_ends(&tool, &root.path(), command.spawn().unwrap());
    }
    assert!(met > 0, "all runs were too fast to be met");
}

#[test]
fn docker_is_told_as_running_by_a_living_daemon_alone() {
    let (tool, root) = (Tool::new(), small_root());
    let daemon = Daemon::start(&[]);
    let daemon_pid = daemon.pid();
    for (state, meaning) in [("none", "not converted"), ("converted", "is converted")] {
        let told = |pid: &str, words: &[&str], whom: &str| {
            fs::write(tool.pid_file(), pid).unwrap();
            let (text, json) = status(&tool, &root.path());
            let first = text.lines().next().unwrap();
            assert!(first.contains(meaning), "{text}");
            for word in words {
                assert!(text.contains(word), "{word} is not in {text}");
            }
            let is_running = text.contains("Docker is running");
            assert_eq!(is_running, whom == "docker", "{text}");
            assert_eq!(json["state"], state);
            assert_eq!(json["docker_pid_files"][0]["whom"], whom, "{json}");
            fs::remove_file(tool.pid_file()).unwrap();
        };
        let words = format!("Docker is running: process {daemon_pid}, according to ");
        told(&daemon_pid, &[&words, "docker.pid"], "docker");
        told(
            "1",
            &["docker.pid: is stale", "process 1 is not Docker", "`rm "],
            "other",
        );
        told(
            "4194999",
            &["docker.pid: is stale", "process 4194999"],
            "nobody",
        );
        told("", &["docker.pid: is stale", "no process"], "nobody");
        let (text, json) = status(&tool, &root.path());
        assert!(!text.contains("docker.pid: "), "{text}");
        assert_eq!(json["docker_pid_files"], Value::Array(Vec::new()));
        tool.run("convert", &root.path(), &[]).expect(0, &[]);
    }
}

#[test]
fn the_pid_file_of_a_killed_run_is_a_side_remark() {
    let (tool, root) = (Tool::new(), large_root());
    let mut child = stopped(&tool, &root, &[]);
    let (text, json) = status(&tool, &root.path());
    assert!(!text.contains("docker.pid: "), "{text}");
    assert_eq!(json["docker_pid_files"][0]["whom"], "aufs2dm");
    child.kill().unwrap();
    child.wait().unwrap();
    let (text, _) = status(&tool, &root.path());
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("  ") && last.contains("docker.pid: is stale"));
    tool.run("resume", &root.path(), &[]).expect(0, &[]);
    let (text, _) = status(&tool, &root.path());
    assert!(!text.contains("docker.pid: "), "{text}");
}
