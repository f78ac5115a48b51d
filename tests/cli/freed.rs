//! What `commit` and `rollback` say of the space that they give back.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::Value;

use super::run::{Tool, small_root};
use super::support::root::AufsRoot;

const MIB: u64 = 1 << 20;

/// A root with a megabyte in a layer, converted and verified.
fn ready() -> (Tool, AufsRoot) {
    let tool = Tool::new();
    let root = small_root();
    fs::write(root.branch("app").join("large"), vec![7; 1 << 20]).unwrap();
    tool.run("convert", &root.path(), &["--no-verify"])
        .expect(0, &[]);
    tool.run("verify", &root.path(), &["--full"]);
    (tool, root)
}

#[test]
fn commit_tells_what_it_freed_and_on_which_verification_it_stood() {
    let (tool, root) = ready();
    let ended = tool.run("commit", &root.path(), &["--yes", "--json"]);
    ended.expect(0, &[]);
    let told: Value = serde_json::from_str(&ended.out).unwrap();
    let freed = told["freed"].as_u64().unwrap();
    assert!((MIB..2 * MIB).contains(&freed), "{told}");
    assert_eq!(told["verified"]["full"], true, "{told}");
    assert!(told["verified"]["at"].as_u64().unwrap() > 0, "{told}");
    let (tool, root) = ready();
    let ended = tool.run("commit", &root.path(), &["--yes"]);
    let told =
        ended.out.contains("removed aufs/ and image/aufs/, 1.") && ended.out.contains(" MiB freed");
    assert!(told, "{ended:?}");
}

/// What `commit` asks on a terminal where the answer is no.
pub(crate) fn asked(tool: &Tool, root: &Path) -> String {
    let mut child = tool.commit_on_terminal(root);
    child.stdin.take().unwrap().write_all(b"no\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let asked = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{asked}");
    asked
}

#[test]
fn commit_asks_with_the_space_and_the_verification() {
    let (tool, root) = ready();
    let asked = asked(&tool, &root.path());
    for words in ["verified: in full on 2", "which frees 1.", " MiB. Type yes"] {
        assert!(asked.contains(words), "{words}: {asked}");
    }
    assert!(root.path().join("aufs/diff").exists());
}

#[test]
fn rollback_tells_what_it_freed() {
    let (tool, root) = ready();
    let ended = tool.run("rollback", &root.path(), &["--json"]);
    ended.expect(0, &[]);
    let told: Value = serde_json::from_str(&ended.out).unwrap();
    assert!(told["freed"].as_u64().unwrap() > MIB, "{told}");
    let again = tool.run("rollback", &root.path(), &["--json"]);
    let told: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!(told["freed"], 0);
}
