//! `convert` on a root in which an interrupted conversion has written layers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::commit_unseen::HIDDEN_WRITES;
use super::interrupted::wait_for;
use super::run::{BINARY, Ended, Tool, large_root};
use super::support::root::AufsRoot;
use super::support::trace::{assert_same, contents};

/// The lines of the journal that say so.
const DURABLE: &str = "{\"record\":\"durable\"";
const UNDONE: &str = "{\"record\":\"undone\"";

fn journal(root: &Path) -> String {
    fs::read_to_string(root.join(".aufs2dm/journal")).unwrap_or_default()
}

/// Kills a conversion once a device is durable.
fn killed(tool: &Tool, root: &AufsRoot) {
    killed_when(tool, root, &[DURABLE]);
}

/// Kills a conversion once the journal has any of these.
fn killed_when(tool: &Tool, root: &AufsRoot, words: &[&str]) {
    let mut child = tool.start(&root.path(), &["--jobs", "1", "--checkpoint", "0"]);
    wait_for(&root.path().join(".aufs2dm/journal"));
    let began = Instant::now();
    while !words
        .iter()
        .any(|words| journal(&root.path()).contains(words))
    {
        assert!(began.elapsed() < Duration::from_secs(60));
        sleep(Duration::from_micros(200));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(root.path().join("aufs").exists() && !root.path().join("devicemapper").exists());
}

#[test]
fn layers_that_are_kept_are_named_with_the_three_ways_on_and_stay() {
    let (tool, root) = (Tool::new(), large_root());
    killed(&tool, &root);
    let before = contents(&root.path());
    for options in [&["--dry-run"][..], &[]] {
        let refused = tool.run("convert", &root.path(), options);
        let place = root.path().display().to_string();
        let words = [
            "layers are kept from an interrupted conversion",
            &format!("aufs2dm resume --root {place}"),
            &format!("aufs2dm rollback --root {place}"),
            &format!("aufs2dm convert --restart --root {place}"),
        ];
        refused.expect(1, &words);
        // Without the total nobody knows what is at stake.
        let kept = refused.err.split(" layers are kept").next().unwrap();
        let numbers: Vec<u32> = kept
            .rsplit(": ")
            .next()
            .unwrap()
            .split(" of ")
            .map(|number| number.parse().unwrap())
            .collect();
        assert!(
            numbers.len() == 2 && numbers[0] > 0 && numbers[0] <= numbers[1],
            "{refused:?}"
        );
        assert_same(&before, &contents(&root.path()));
    }
    tool.run("resume", &root.path(), &[]).expect(0, &[]);
    tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
}

#[test]
fn the_line_that_begins_anew_has_all_options_of_the_run_that_was_refused() {
    let (tool, root) = (Tool::new(), large_root());
    killed(&tool, &root);
    let options = ["--jobs", "3", "--no-verify", "--base-size=20G"];
    let refused = tool.run("convert", &root.path(), &options);
    let place = root.path().display().to_string();
    let line = format!(
        "aufs2dm convert --jobs 3 --no-verify --base-size=20G --restart --root {place} --host-root {} --pidfile {}",
        tool.host_root().display(),
        tool.pid_file().display()
    );
    refused.expect(1, &[&format!("`{line}`")]);
    let pasted = Command::new(BINARY).args(line.split(' ').skip(1)).output();
    Ended::new(&pasted.unwrap()).expect(0, &[]);
    let status = tool.run("status", &root.path(), &[]);
    assert!(status.out.contains("verified: never"), "{status:?}");
}

#[test]
fn a_restart_removes_what_is_kept_and_converts_anew() {
    let (tool, root) = (Tool::new(), large_root());
    killed(&tool, &root);
    let before = contents(&root.path());
    let plan = tool.run("convert", &root.path(), &["--restart", "--dry-run"]);
    plan.expect(0, &["would be replaced"]);
    assert_same(&before, &contents(&root.path()));
    tool.run("convert", &root.path(), &["--restart"])
        .expect(0, &["left behind by an interrupted run, is replaced"]);
    assert!(!journal(&root.path()).contains(UNDONE));
    tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
}

#[test]
fn a_restart_where_nothing_is_kept_is_a_conversion() {
    let (tool, root) = (Tool::new(), large_root());
    tool.run("convert", &root.path(), &["--restart"])
        .expect(0, &[]);
    let again = tool.run("convert", &root.path(), &["--restart"]);
    again.expect(0, &["is already converted"]);
    assert!(root.path().join("devicemapper/metadata/base").exists());
}

#[test]
fn layers_that_are_kept_stay_where_aufs_lost_what_they_have() {
    let (tool, root) = (Tool::new(), large_root());
    killed(&tool, &root);
    let branches = root.path().join("aufs/diff");
    let branch = fs::read_dir(&branches).unwrap().next().unwrap();
    let (branch, lost) = (branch.unwrap().path(), root.path().join("lost"));
    fs::rename(&branch, &lost).unwrap();
    let words = ["is missing", "rollback --onto-damaged"];
    tool.run("rollback", &root.path(), &[]).expect(1, &words);
    assert!(journal(&root.path()).contains(DURABLE));
    fs::rename(&lost, &branch).unwrap();
    tool.run("rollback", &root.path(), &[]).expect(0, &[]);
    assert!(!root.path().join(".aufs2dm").exists());
}

/// A root with a second layer, of a conversion that is killed when the first is durable.
fn killed_after_base(tool: &Tool) -> AufsRoot {
    let content = vec![0x5b; 2 << 20];
    let root = large_root()
        .layer("top", |l| {
            (0..48).fold(l, |l, n| l.file(format!("more{n:03}"), &content))
        })
        .image("lab/top:1", "top")
        .container("web", ("lab/top:1", "top"), |l| l.file("log", "line"));
    killed_when(tool, &root, &["\"devices\":[1]", "\"devices\":[0,1]"]);
    root
}

/// A root of a conversion that is killed when the layer of one of two containers is durable.
fn killed_when_written(tool: &Tool) -> AufsRoot {
    let content = vec![0x5b; 2 << 20];
    let root = large_root()
        .container("web", ("lab/base:1", "base"), |l| {
            (0..48).fold(l, |l, n| l.file(format!("more{n:03}"), &content))
        })
        .container("other", ("lab/base:1", "base"), |l| {
            (0..48).fold(l, |l, n| l.file(format!("more{n:03}"), &content))
        });
    let durable = ["3", "2,3", "1,2,3", "0,1,2,3"].map(|list| format!("\"devices\":[{list}]"));
    killed_when(tool, &root, &durable.each_ref().map(String::as_str));
    root
}

/// The first file of the layer that is written.
fn first_file(root: &AufsRoot) -> PathBuf {
    root.branch("base").join("blob000")
}

#[test]
fn layers_that_are_kept_stay_where_their_branches_lost_or_changed_anything() {
    let harms: [fn(&Path); 4] = [
        |file| fs::remove_file(file).unwrap(),
        |file| fs::write(file, "other").unwrap(),
        HIDDEN_WRITES[0],
        HIDDEN_WRITES[1],
    ];
    for harm in harms {
        let tool = Tool::new();
        let root = killed_after_base(&tool);
        harm(&first_file(&root));
        let commands = [
            ("rollback", &[][..]),
            ("convert", &["--restart"]),
            ("convert", &["--restart", "--dry-run"]),
        ];
        for (verb, options) in commands {
            let words = [
                "after its device was written|differs from what was written",
                "rollback --onto-damaged",
            ];
            let refused = tool.run(verb, &root.path(), options);
            refused.expect(1, &words[1..]);
            let is_told = words[0].split('|').any(|words| refused.err.contains(words));
            assert!(is_told, "{refused:?}");
            assert!(journal(&root.path()).contains(DURABLE));
        }
        tool.run("rollback", &root.path(), &["--onto-damaged"])
            .expect(0, &[]);
        tool.run("convert", &root.path(), &[]).expect(0, &[]);
    }
}

#[test]
fn what_was_written_to_aufs_while_a_conversion_was_interrupted_keeps_the_devices_from_rollback() {
    for write in HIDDEN_WRITES {
        let tool = Tool::new();
        let root = killed_after_base(&tool);
        write(&first_file(&root));
        let resumed = tool.run("resume", &root.path(), &[]);
        if resumed.code == Some(0) {
            tool.run("rollback", &root.path(), &[])
                .expect(1, &["written to", "verify --full"]);
            assert!(root.path().join("devicemapper/metadata/base").exists());
        } else {
            // An attribute is seen when the branch is read.
            assert!(journal(&root.path()).contains(DURABLE), "{resumed:?}");
        }
    }
}

#[test]
fn layers_that_are_kept_stay_where_aufs_lost_them_with_their_records() {
    let losses: [fn(&AufsRoot); 2] = [
        |root| {
            // The image's lower layer, as a file system's check takes it.
            let base = root.branch("base");
            let id = base.file_name().unwrap().to_str().unwrap();
            let layers = root.path().join("image/aufs/layerdb/sha256");
            let mut records = fs::read_dir(layers)
                .unwrap()
                .map(|entry| entry.unwrap().path());
            let is_its = |path: &PathBuf| fs::read_to_string(path.join("cache-id")).unwrap() == id;
            fs::remove_dir_all(records.find(is_its).unwrap()).unwrap();
            fs::remove_file(root.path().join("aufs/layers").join(id)).unwrap();
            fs::remove_dir_all(base).unwrap();
        },
        |root| {
            fs::remove_dir_all(root.path().join("image/aufs/layerdb/mounts")).unwrap();
            for name in ["web rw", "web init"] {
                let branch = root.branch(name);
                let list = root
                    .path()
                    .join("aufs/layers")
                    .join(branch.file_name().unwrap());
                fs::remove_file(list).unwrap();
                fs::remove_dir_all(branch).unwrap();
            }
        },
    ];
    for lose in losses {
        let tool = Tool::new();
        let root = killed_after_base(&tool);
        lose(&root);
        for (verb, options) in [("rollback", &[][..]), ("convert", &["--restart"])] {
            let refused = tool.run(verb, &root.path(), options);
            refused.expect(1, &["rollback --onto-damaged"]);
            assert!(journal(&root.path()).contains(DURABLE));
        }
    }
}

type Change = fn(&Path);

/// What a start of the container writes, and what else may become of its config.
#[test]
fn what_a_container_wrote_that_was_started_since_is_no_loss() {
    let changes: [(Change, i32); 3] = [
        (
            |config| {
                let text = fs::read(config).unwrap();
                let mut all: Value = serde_json::from_slice(&text).unwrap();
                all["State"]["StartedAt"] = "2026-01-02T03:04:05.6Z".into();
                fs::write(config, all.to_string()).unwrap();
            },
            0,
        ),
        (
            |config| {
                let text = fs::read_to_string(config).unwrap();
                fs::write(config, text + "\n").unwrap();
            },
            1,
        ),
        (|config| fs::remove_file(config).unwrap(), 1),
    ];
    for (change, code) in changes {
        let tool = Tool::new();
        let root = killed_when_written(&tool);
        for branch in ["web rw", "other rw"] {
            fs::write(root.branch(branch).join("more000"), "more").unwrap();
        }
        for container in fs::read_dir(root.path().join("containers")).unwrap() {
            change(&container.unwrap().path().join("config.v2.json"));
        }
        tool.run("rollback", &root.path(), &[]).expect(code, &[]);
        assert_eq!(root.path().join(".aufs2dm").exists(), code == 1);
    }
}

#[test]
fn what_is_staged_of_the_image_store_stays_where_aufs_lost_it() {
    let losses: [fn(&Path); 2] = [
        |store| fs::remove_file(store.join("repositories.json")).unwrap(),
        |store| {
            let configs = fs::read_dir(store.join("imagedb/content/sha256")).unwrap();
            let config = configs.into_iter().next().unwrap().unwrap().path();
            let kept = config.parent().unwrap().metadata().unwrap();
            fs::remove_file(&config).unwrap();
            let directory = fs::File::open(config.parent().unwrap()).unwrap();
            directory.set_modified(kept.modified().unwrap()).unwrap();
        },
    ];
    for lose in losses {
        let (tool, root) = (Tool::new(), large_root());
        killed(&tool, &root);
        let (store, staged) = (
            root.path().join("image/aufs"),
            root.path().join(".aufs2dm/image"),
        );
        let copied = Command::new("cp")
            .arg("-a")
            .args([&store, &staged])
            .status();
        assert!(copied.unwrap().success());
        lose(&store);
        for (verb, options) in [
            ("rollback", &[][..]),
            ("resume", &[]),
            ("convert", &["--restart"]),
        ] {
            let words = ["is missing", "rollback --onto-damaged"];
            tool.run(verb, &root.path(), options).expect(1, &words);
            assert!(staged.join("repositories.json").exists());
        }
    }
}

#[test]
fn what_has_no_durable_layer_is_replaced_without_being_asked() {
    let (tool, root) = (Tool::new(), large_root());
    let mut child = tool.start(&root.path(), &["--jobs", "1"]);
    wait_for(&root.path().join(".aufs2dm/devicemapper/devicemapper/data"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!journal(&root.path()).contains(DURABLE));
    tool.run("convert", &root.path(), &[])
        .expect(0, &["left behind by an interrupted run, is replaced"]);
}
