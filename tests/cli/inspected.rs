//! `inspect` of a root that was converted, and every command after `commit`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::at_work::stop_in;
use super::commands_complete::commands;
use super::run::{Ended, Tool, large_root, small_root};
use super::support::root::{AufsRoot, container_id};

fn converted() -> (Tool, AufsRoot) {
    let (tool, root) = (Tool::new(), small_root());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    (tool, root)
}

fn committed() -> (Tool, AufsRoot) {
    let (tool, root) = converted();
    tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
    tool.run("commit", &root.path(), &["--yes"]).expect(0, &[]);
    (tool, root)
}

/// What `inspect` says: as text, with all of the words, and as JSON. It has nothing to warn of.
#[track_caller]
fn inspected(tool: &Tool, root: &Path, words: &[&str]) -> (String, Value) {
    let text = tool.run("inspect", root, &[]);
    text.expect(0, &[]);
    assert_eq!(text.err, "", "{text:?}");
    for word in words {
        assert!(text.out.contains(word), "{word:?} is not in {}", text.out);
    }
    let json = tool.run("inspect", root, &["--json"]);
    json.expect(0, &[]);
    (text.out, serde_json::from_str(&json.out).unwrap())
}

/// Nothing of what is true of a root before its conversion alone.
#[track_caller]
fn expect_true(text: &str) {
    for words in [
        "driver      aufs",
        "another driver",
        "becomes visible again",
        "there is already",
        "prevent a conversion",
        "not converted",
    ] {
        assert!(!text.contains(words), "{words:?} is in {text}");
    }
}

#[test]
fn a_converted_root_is_shown_as_docker_has_it_with_what_became_of_it() {
    let (tool, root) = (Tool::new(), small_root());
    let (_, before) = inspected(&tool, &root.path(), &["driver      aufs"]);
    assert_eq!(before["conversion"], Value::Null);
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    let place = root.path().display().to_string();
    let words = [
        "driver      devicemapper",
        "conversion  converted on 20",
        &format!("by aufs2dm {}", env!("CARGO_PKG_VERSION")),
        &format!("the aufs side is kept, `aufs2dm rollback --root {place}"),
        "lab/app:1",
        "web",
        "4 thin devices: 2 of images",
    ];
    let (text, json) = inspected(&tool, &root.path(), &words);
    expect_true(&text);
    assert_eq!(json["driver"], "devicemapper");
    assert_eq!(json["conversion"]["state"], "converted");
    assert!(
        json["conversion"]["switched_at"].as_u64()
            > json["conversion"]["begun_at"].as_u64().map(|at| at - 1)
    );
    for field in [
        "images",
        "nr_image_layers",
        "image_layer_bytes",
        "nr_volumes",
    ] {
        assert_eq!(json[field], before[field], "{field}");
    }
    let container = &json["containers"][0];
    assert_eq!(container["driver"], "devicemapper");
    assert_eq!(container["converted"], true);
}

#[test]
fn a_container_that_docker_would_not_load_is_told_apart() {
    let (tool, root) = converted();
    let config = root
        .path()
        .join("containers")
        .join(container_id("web"))
        .join("config.v2.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("devicemapper", "overlay2")).unwrap();
    let (_, json) = inspected(&tool, &root.path(), &["Docker does not load it"]);
    assert_eq!(json["containers"][0]["converted"], false);
}

#[test]
fn an_aufs_side_that_is_not_whole_any_more_is_no_reason_to_fail() {
    for (inner, words) in [
        ("aufs", "the aufs side is incomplete"),
        ("aufs/diff", "the aufs side is incomplete"),
        ("image/aufs", "the aufs side is missing"),
    ] {
        let (tool, root) = converted();
        let path = root.path().join(inner);
        let aside = root.path().parent().unwrap().join("aside");
        fs::rename(&path, &aside).unwrap();
        if inner == "image/aufs" {
            fs::remove_dir_all(root.path().join("aufs")).unwrap();
        }
        let words = [
            "conversion  converted on 20",
            words,
            "`aufs2dm status --root ",
            "lab/app:1",
        ];
        let (text, _) = inspected(&tool, &root.path(), &words);
        expect_true(&text);
    }
}

#[test]
fn a_conversion_that_was_interrupted_is_told_beside_what_is_in_the_aufs_root() {
    let (tool, root) = (Tool::new(), large_root());
    let mut child = tool.start(&root.path(), &["--jobs", "1"]);
    stop_in(&child, &root.path(), "data");
    let at_work = format!("aufs2dm convert is at work on it (process {}", child.id());
    let (text, _) = inspected(&tool, &root.path(), &["driver      aufs", &at_work]);
    assert!(!text.contains("interrupted"), "{text}");
    child.kill().unwrap();
    child.wait().unwrap();
    let words = [
        "driver      aufs",
        "conversion  a conversion was interrupted",
        "aufs2dm resume",
        "lab/base:1",
    ];
    let (_, json) = inspected(&tool, &root.path(), &words);
    assert_eq!(json["conversion"]["state"], "writing");
}

#[test]
fn after_commit_the_devicemapper_side_is_shown_with_the_dates() {
    let (tool, root) = converted();
    let (_, before) = inspected(&tool, &root.path(), &[]);
    tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
    tool.run("commit", &root.path(), &["--yes"]).expect(0, &[]);
    let words = [
        "driver      devicemapper",
        "conversion  converted on 20",
        "the aufs side was removed on 20",
        " by commit",
        "lab/app:1",
        "web",
        "4 thin devices",
    ];
    let (text, json) = inspected(&tool, &root.path(), &words);
    expect_true(&text);
    assert!(!text.contains("rollback"), "{text}");
    assert_eq!(json["conversion"]["state"], "committed");
    assert!(json["conversion"]["committed_at"].as_u64().unwrap() > 1_600_000_000);
    for field in ["images", "containers", "nr_devices"] {
        assert_eq!(json[field], before[field], "{field}");
    }
}

/// What a command says after `commit`, and the commands that lead on.
#[track_caller]
fn expect_way_on(ended: &Ended, code: i32, words: &[&str], verbs: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    let said = format!("{}{}", ended.out, ended.err);
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    for wrong in [
        "hint:",
        "not an aufs root",
        "starts one",
        "goes back to aufs",
        "--root names",
    ] {
        assert!(!said.contains(wrong), "{wrong:?} is in {said}");
    }
    let told = commands(&said);
    let found: Vec<_> = told
        .iter()
        .map(|one| {
            one.strip_prefix("aufs2dm ")
                .unwrap()
                .split_once(" --root")
                .unwrap()
                .0
        })
        .collect();
    assert_eq!(found, verbs, "{said}");
}

const COMMITTED: [&str; 3] = [
    "was converted by aufs2dm",
    "committed on 20",
    "the aufs side was removed, and there is no way back",
];

const SHOW: [&str; 2] = ["inspect", "verify --full"];

#[test]
fn after_commit_each_command_says_what_is_true_and_what_leads_on() {
    let (tool, root) = committed();
    let run = |words: &[&str]| tool.run(words[0], &root.path(), &words[1..]);
    for words in [
        &["convert"][..],
        &["convert", "--dry-run"],
        &["convert", "--restart"],
        &["resume"],
        &["rollback"],
        &["rollback", "--force"],
        &["commit"],
        &["commit", "--yes"],
    ] {
        expect_way_on(&run(words), 1, &COMMITTED, &SHOW);
    }
    expect_way_on(&run(&["status"]), 0, &COMMITTED, &SHOW);
    expect_way_on(
        &run(&["inspect"]),
        0,
        &["was removed on 20", "lab/app:1"],
        &[],
    );
    expect_way_on(
        &run(&["verify"]),
        0,
        &["no fault in what was read"],
        &["verify --full"],
    );
    expect_way_on(
        &run(&["verify", "--full"]),
        0,
        &["no fault in what could be verified"],
        &[],
    );
    let status = tool.run("status", &root.path(), &["--json"]);
    let status: Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(
        (&status["state"], &status["running"]),
        (&"committed".into(), &Value::Null)
    );
}

#[test]
fn without_the_record_it_is_a_devicemapper_root_and_no_command_says_otherwise() {
    let (tool, root) = committed();
    fs::remove_file(root.path().join(".aufs2dm.json")).unwrap();
    let run = |words: &[&str]| tool.run(words[0], &root.path(), &words[1..]);
    let words = ["a devicemapper root without an aufs side"];
    let show = ["inspect", "verify"];
    for command in ["convert", "resume", "rollback", "commit"] {
        expect_way_on(&run(&[command]), 1, &words, &show);
    }
    expect_way_on(&run(&["status"]), 0, &words, &show);
    expect_way_on(
        &run(&["verify"]),
        0,
        &["no fault in what was read"],
        &["verify --full"],
    );
    let (text, json) = inspected(
        &tool,
        &root.path(),
        &["lab/app:1", "driver      devicemapper"],
    );
    expect_true(&text);
    assert_eq!(json["conversion"], Value::Null);
}
