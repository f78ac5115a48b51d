//! What `chattr` set in the branches is told to be lost.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::removal::Flags;
use super::run::{Ended, Tool, small_root};
use super::support::root::AufsRoot;

/// A root with three files that have flags, one of them with two names.
fn flagged_root() -> (AufsRoot, Flags) {
    let root = small_root();
    let flags = Flags(root.path());
    let (base, app) = (root.branch("base"), root.branch("app"));
    std::fs::hard_link(base.join("bin/sh"), base.join("bin/ash")).unwrap();
    flags.set("+i", &base.join("bin/sh"));
    flags.set("+ad", &base.join("etc"));
    flags.set("+i", &app.join("app/data"));
    (root, flags)
}

fn id(root: &AufsRoot, layer: &str) -> String {
    let branch = root.branch(layer);
    branch.file_name().unwrap().to_str().unwrap().to_owned()
}

fn json_of(ended: &Ended) -> Value {
    serde_json::from_str::<Value>(&ended.out).unwrap()["flags"].clone()
}

#[track_caller]
fn expect_told(root: &AufsRoot, text: &str) {
    let told = |layer, words| format!("layer {}: {words} (affects ", id(root, layer));
    let of_the_shell =
        ["/bin/sh: immutable", "/bin/ash: immutable"].map(|words| told("base", words));
    assert!(
        of_the_shell.iter().any(|words| text.contains(words)),
        "{text}"
    );
    for words in [
        "  flags       3 files have flags set with `chattr`, not carried over:",
        &told("base", "/etc: append-only, no-dump"),
        &told("app", "/app/data: immutable"),
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
}

#[test]
fn a_plan_and_a_conversion_tell_which_files_lose_their_flags() {
    let (tool, (root, _flags)) = (Tool::new(), flagged_root());
    let dry = tool.run("convert", &root.path(), &["--dry-run"]);
    dry.expect(0, &[]);
    expect_told(&root, &dry.out);
    let planned = json_of(&tool.run("convert", &root.path(), &["--dry-run", "--json"]));
    let run = tool.run("convert", &root.path(), &[]);
    run.expect(0, &[]);
    expect_told(&root, &run.out);
    assert_eq!(planned["files"], 3);
    assert_eq!(planned["looked_for"], true);
    let flags = planned["first"].as_array().unwrap().iter();
    let flags: Vec<_> = flags
        .map(|file| (file["layer"].clone(), file["flags"].clone()))
        .collect();
    assert!(
        flags.contains(&(json!(id(&root, "app")), json!(["immutable"]))),
        "{flags:?}"
    );
    assert!(
        flags.contains(&(json!(id(&root, "base")), json!(["append-only", "no-dump"]))),
        "{flags:?}"
    );
    // They are lost indeed, and that is no difference.
    tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
}

#[test]
fn the_command_beside_them_lists_all_files_with_flags_and_no_others() {
    let (tool, (root, _flags)) = (Tool::new(), flagged_root());
    let dry = tool.run("convert", &root.path(), &["--dry-run"]);
    let command = dry.out.split('`').find(|part| part.starts_with("find"));
    let listed = Command::new("sh").args(["-c", command.unwrap()]).output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    let paths: Vec<_> = listed
        .lines()
        .map(|line| line.split_once(' ').unwrap().1.trim())
        .collect();
    for (layer, path) in [
        ("base", "bin/sh"),
        ("base", "bin/ash"),
        ("base", "etc"),
        ("app", "app/data"),
    ] {
        let path = root.branch(layer).canonicalize().unwrap().join(path);
        assert!(
            paths.iter().any(|listed| Path::new(listed) == path),
            "{path:?} is not in {listed}"
        );
    }
    assert_eq!(paths.len(), 4, "{listed}");
}

#[test]
fn a_root_without_flags_is_told_nothing_of_them() {
    let (tool, root) = (Tool::new(), small_root());
    let dry = tool.run("convert", &root.path(), &["--dry-run"]);
    assert!(!dry.out.contains("chattr"), "{}", dry.out);
    let planned = json_of(&tool.run("convert", &root.path(), &["--dry-run", "--json"]));
    assert_eq!(
        planned,
        json!({"files": 0, "first": [], "looked_for": true})
    );
}
