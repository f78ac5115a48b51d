//! A process that does not see all of a root, although it runs as user 0.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use super::run::{Ended, Tool, small_root};
use super::support::root::AufsRoot;
use super::support::trace::{assert_same, contents};

/// A root with what is not seen by everybody: a trusted attribute, an owner of its own.
fn root() -> AufsRoot {
    let root = small_root();
    let file = fs::read_dir(root.path().join("aufs/diff"))
        .unwrap()
        .map(|entry| entry.unwrap().path().join("app/data"))
        .find(|path| path.exists())
        .unwrap();
    xattr::set(&file, "trusted.overlay.opaque", b"y").unwrap();
    chown(&file, Some(1234), Some(4321)).unwrap();
    root
}

/// Runs the tool through another program.
fn run_by(by: &[&str], tool: &Tool, root: &Path, words: &[&str]) -> Ended {
    let plain = tool.command(words[0], root, &words[1..]);
    let mut command = Command::new(by[0]);
    command.args(&by[1..]).arg(plain.get_program());
    command.args(plain.get_args());
    Ended::new(&command.output().unwrap())
}

fn without(capability: &str) -> Vec<String> {
    let drop = format!("-{capability}");
    ["setpriv", "--bounding-set", &drop, "--inh-caps", &drop]
        .map(str::to_owned)
        .to_vec()
}

/// What reads a root and judges it.
const READING: [&[&str]; 3] = [
    &["convert", "--dry-run"],
    &["convert"],
    &["verify", "--full"],
];

#[test]
fn without_a_capability_that_reading_needs_nothing_is_converted_or_proven() {
    let (tool, root) = (Tool::new(), root());
    let before = contents(&root.path());
    for (capability, name) in [
        ("sys_admin", "CAP_SYS_ADMIN"),
        ("dac_read_search", "CAP_DAC_READ_SEARCH"),
    ] {
        let by = without(capability);
        let by: Vec<_> = by.iter().map(String::as_str).collect();
        for words in READING {
            let ended = run_by(&by, &tool, &root.path(), words);
            ended.expect(1, &[name, "run it as root on the host"]);
            assert_eq!(ended.out, "");
        }
        run_by(&by, &tool, &root.path(), &["inspect"]).expect(0, &[name]);
    }
    assert_same(&before, &contents(&root.path()));
    assert!(!tool.pid_file().exists());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
    // What may be deleted was seen whole.
    let by = without("sys_admin");
    let by: Vec<_> = by.iter().map(String::as_str).collect();
    run_by(&by, &tool, &root.path(), &["commit", "--yes"]).expect(1, &["CAP_SYS_ADMIN"]);
    assert!(root.path().join("aufs/diff").exists());
    run_by(&by, &tool, &root.path(), &["rollback"]).expect(0, &["CAP_SYS_ADMIN"]);
    assert_same(&before, &contents(&root.path()));
}

#[test]
fn user_0_of_a_user_namespace_is_not_root() {
    let (tool, root) = (Tool::new(), root());
    let before = contents(&root.path());
    for words in READING {
        let ended = run_by(&["unshare", "-U", "-r"], &tool, &root.path(), words);
        ended.expect(1, &["user namespace", "run it as root on the host"]);
        assert_eq!(ended.out, "");
    }
    assert_same(&before, &contents(&root.path()));
}

#[test]
fn without_proc_it_is_said_what_is_missing() {
    let (tool, root) = (Tool::new(), small_root());
    // Over it lies a file system without what the kernel tells there.
    let hidden = "mount -t tmpfs none /proc && exec \"$@\"";
    let by = ["unshare", "-m", "sh", "-c", hidden, "sh"];
    for words in READING {
        run_by(&by, &tool, &root.path(), words).expect(1, &["/proc", "mount -t proc proc /proc"]);
    }
}
