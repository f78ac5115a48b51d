//! Ctrl-C and `kill`: the last line says what became of the root and how to go on.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::at_work::stop_in;
use super::commands_complete::commands;
use super::interrupted::wait_for;
use super::run::{Ended, Tool, large_root, small_root};
use super::support::root::AufsRoot;
use super::support::trace::{assert_same, contents};

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        sleep(Duration::from_micros(200));
    }
}

fn start(tool: &Tool, verb: &str, root: &Path, options: &[&str]) -> Child {
    let mut command = tool.command(verb, root, options);
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// What a command says that is told to stop before it could do anything: it waits for the root meanwhile.
fn stopped_at_once(tool: &Tool, words: &[&str], root: &Path, signal: Signal) -> Ended {
    let directory = File::open(root).unwrap();
    let held = Flock::lock(directory, FlockArg::LockExclusiveNonblock).unwrap();
    let child = start(tool, words[0], root, &words[1..]);
    let is_in = |set: &str| {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let signals = status.lines().find_map(|line| line.strip_prefix(set));
        let signals = u64::from_str_radix(signals.unwrap().trim(), 16).unwrap();
        signals >> (signal as u32 - 1) & 1 == 1
    };
    until("a signal handler", || is_in("SigCgt:"));
    send(&child, signal);
    until("the handler's call", || !is_in("ShdPnd:"));
    drop(held);
    Ended::new(&child.wait_with_output().unwrap())
}

/// The last line has all of the words, and its commands lead to this root.
#[track_caller]
fn expect_last(ended: &Ended, code: i32, words: &[&str], verbs: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    let last = ended.err.lines().last().unwrap();
    for word in words {
        assert!(last.contains(word), "{word:?} is not in {last}");
    }
    let told = commands(last);
    let found: Vec<_> = told
        .iter()
        .map(|command| {
            let (verb, rest) = command
                .strip_prefix("aufs2dm ")
                .unwrap()
                .split_once(" --root ")
                .unwrap();
            assert!(rest.contains("--pidfile"), "{command}");
            verb
        })
        .collect();
    assert_eq!(found, verbs, "{last}");
}

const AS_IT_WAS: &str = "is as it was, and nothing from this run is kept";

#[test]
fn a_conversion_that_is_stopped_while_it_reads_or_writes_says_that_the_root_is_as_it_was() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (tool, root) = (Tool::new(), large_root());
        let before = contents(&root.path());
        let reading = stopped_at_once(&tool, &["convert"], &root.path(), signal);
        expect_last(&reading, 4, &["interrupted", AS_IT_WAS], &["convert"]);
        let planned = stopped_at_once(&tool, &["convert", "--dry-run"], &root.path(), signal);
        expect_last(
            &planned,
            4,
            &["interrupted", AS_IT_WAS],
            &["convert --dry-run"],
        );
        let child = start(
            &tool,
            "convert",
            &root.path(),
            &["--jobs=1", "--checkpoint=600"],
        );
        stop_in(&child, &root.path(), "data");
        send(&child, signal);
        send(&child, Signal::SIGCONT);
        let writing = Ended::new(&child.wait_with_output().unwrap());
        expect_last(&writing, 4, &["interrupted", AS_IT_WAS], &["convert"]);
        assert_same(&before, &contents(&root.path()));
        assert!(!tool.pid_file().exists());
    }
}

/// A conversion that was told to stop when a layer was durable.
fn stopped_with_layers(tool: &Tool, root: &AufsRoot) -> Ended {
    let path = root.path();
    let child = start(tool, "convert", &path, &["--jobs=1", "--checkpoint=0"]);
    let journal = || fs::read_to_string(path.join(".aufs2dm/journal")).unwrap_or_default();
    until("a layer", || journal().contains("{\"record\":\"durable\""));
    send(&child, Signal::SIGINT);
    Ended::new(&child.wait_with_output().unwrap())
}

#[test]
fn layers_that_are_kept_are_told_with_the_commands_that_go_on() {
    let (tool, root) = (Tool::new(), large_root());
    let words = [
        "interrupted",
        "is as it was, and 1 of 2 layers are written and kept",
    ];
    let verbs = ["resume", "rollback", "convert --restart"];
    let ended = stopped_with_layers(&tool, &root);
    expect_last(&ended, 4, &words, &verbs);
    // Whatever reads or takes back is stopped next: they are kept still.
    for command in [&["resume"][..], &["rollback"], &["convert", "--restart"]] {
        let again = stopped_at_once(&tool, command, &root.path(), Signal::SIGTERM);
        expect_last(&again, 4, &words, &verbs);
    }
    let child = start(
        &tool,
        "resume",
        &root.path(),
        &["--jobs=1", "--checkpoint=0"],
    );
    stop_in(&child, &root.path(), "data");
    send(&child, Signal::SIGINT);
    send(&child, Signal::SIGCONT);
    let resumed = Ended::new(&child.wait_with_output().unwrap());
    expect_last(
        &resumed,
        4,
        &["interrupted", "layers are written and kept"],
        &verbs,
    );
    tool.run("resume", &root.path(), &[]).expect(0, &[]);
}

#[test]
fn a_conversion_that_is_moved_in_place_already_says_so() {
    let (tool, root) = (Tool::new(), large_root());
    let before = contents(&root.path());
    let child = start(&tool, "convert", &root.path(), &["--no-verify"]);
    stop_in(&child, &root.path(), "switch");
    send(&child, Signal::SIGINT);
    send(&child, Signal::SIGCONT);
    let ended = Ended::new(&child.wait_with_output().unwrap());
    if ended.code == Some(4) {
        // It had not begun to.
        expect_last(&ended, 4, &["interrupted", AS_IT_WAS], &["convert"]);
        assert_same(&before, &contents(&root.path()));
    } else {
        let words = "was converted before it could be interrupted";
        expect_last(&ended, 0, &[words], &["rollback"]);
        tool.run("rollback", &root.path(), &[]).expect(0, &[]);
    }
}

fn converted() -> (Tool, AufsRoot) {
    let (tool, root) = (Tool::new(), small_root());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
    (tool, root)
}

#[test]
fn what_is_stopped_on_a_converted_root_before_it_begins_says_that_nothing_was_changed() {
    let (tool, root) = converted();
    let before = contents(&root.path());
    for (words, again) in [
        (&["rollback"][..], "rollback"),
        (&["commit", "--yes"], "commit"),
        (&["verify"], "verify"),
        (&["verify", "--full"], "verify --full"),
    ] {
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let ended = stopped_at_once(&tool, words, &root.path(), signal);
            let told = ["interrupted", "nothing was changed; it is converted"];
            expect_last(&ended, 4, &told, &[again]);
            assert_same(&before, &contents(&root.path()));
        }
    }
    assert!(!tool.pid_file().exists());
}

#[test]
fn a_rollback_that_has_begun_goes_on_to_its_end() {
    let (tool, root) = converted();
    let child = start(&tool, "rollback", &root.path(), &[]);
    until("the first step", || {
        !root.path().join("devicemapper").exists()
    });
    send(&child, Signal::SIGINT);
    let ended = Ended::new(&child.wait_with_output().unwrap());
    ended.expect(0, &[]);
    assert!(ended.out.contains("is as it was before the conversion"));
    assert!(!root.path().join(".aufs2dm").exists());
}

#[test]
fn a_removal_of_the_aufs_side_that_is_stopped_says_what_finishes_it() {
    let (tool, root) = (Tool::new(), small_root());
    let fill = |directory: &Path| {
        fs::create_dir_all(directory).unwrap();
        for n in 0..20_000 {
            fs::write(directory.join(format!("f{n}")), "").unwrap();
        }
    };
    // On a slow machine little may be left of one.
    for branch in ["app", "base"] {
        for n in 0..2 {
            fill(&root.branch(branch).join(format!("many{n}")));
        }
    }
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
    let child = start(&tool, "commit", &root.path(), &["--yes"]);
    wait_for(&root.path().join(".aufs2dm/removed/image"));
    send(&child, Signal::SIGINT);
    let ended = Ended::new(&child.wait_with_output().unwrap());
    let words = [
        "interrupted",
        "the removal of the aufs side was interrupted",
    ];
    expect_last(&ended, 4, &words, &["commit"]);
    assert!(!tool.pid_file().exists());
    let again = stopped_at_once(&tool, &["resume"], &root.path(), Signal::SIGTERM);
    expect_last(&again, 4, &words, &["commit"]);
    tool.run("commit", &root.path(), &["--yes"]).expect(0, &[]);
    assert!(!root.path().join("aufs").exists() && !root.path().join(".aufs2dm").exists());
}

#[test]
fn ctrl_c_at_the_question_of_commit_removes_nothing() {
    let (tool, root) = converted();
    let before = contents(&root.path());
    let mut child = tool.commit_on_terminal(&root.path());
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("Type yes") {
        let mut byte = [0];
        assert_eq!(stdout.read(&mut byte).unwrap(), 1, "{said:?}");
        said.push(byte[0]);
    }
    stdin.write_all(b"\x03").unwrap();
    stdout.read_to_end(&mut said).unwrap();
    let said = String::from_utf8(said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4), "{said}");
    assert!(said.contains("interrupted; "), "{said}");
    assert!(said.contains("nothing was changed"), "{said}");
    assert_same(&before, &contents(&root.path()));
    assert!(!tool.pid_file().exists());
}
