//! Damage that was in aufs before the conversion is told as that: by `convert`, `status`, `commit` and `verify`, and so after `commit`.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use serde_json::Value;
use tempfile::TempDir;

use super::freed::asked;
use super::run::{Ended, Tool};
use super::support::fixture::unpack;

/// What the damaged file begins with.
const MARK: &[u8] = b"DAMAGED-BEFORE-1";

/// A root in which one file of an image is not what Docker unpacked; with the id of the file's layer.
fn damaged_root() -> (TempDir, PathBuf, String) {
    let dir = unpack("small.tar.xz");
    let root = dir.path().join("docker");
    let branches = fs::read_dir(root.join("aufs/diff")).unwrap();
    let branches = branches.map(|branch| branch.unwrap().path());
    let with = branches.filter(|branch| branch.join("etc/passwd").is_file());
    let branch = with.min().unwrap();
    let file = OpenOptions::new()
        .write(true)
        .open(branch.join("etc/passwd"))
        .unwrap();
    file.write_all_at(MARK, 0).unwrap();
    let id = branch.file_name().unwrap().to_str().unwrap().to_owned();
    (dir, root, id)
}

fn json_of(ended: &Ended) -> Value {
    serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

fn verdict(tool: &Tool, root: &Path, how: &str) -> Value {
    json_of(&tool.run("verify", root, &[how, "--json"]))["verdict"].clone()
}

/// Fails unless a text names the layer, its file, who needs it, and what to do.
#[track_caller]
fn expect_told(text: &str, root: &Path, layer: &str) {
    for words in [
        "1 layer is not what Docker once unpacked; the damage is older than the conversion, and the converted root has it too",
        &format!("layer {layer}: /etc/passwd: its content is not what Docker recorded"),
        "(affects image ",
        &format!("`aufs2dm verify --full --root {}", root.display()),
        "pull or build them again",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
}

/// Changes a byte of each place in the pool's data that has these bytes.
fn change_in_pool(root: &Path, bytes: &[u8]) {
    let path = root.join("devicemapper/devicemapper/data");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let (mut at, mut changed) = (0, 0);
    loop {
        let start = match lseek(&file, at, Whence::SeekData) {
            Err(Errno::ENXIO) => break,
            start => start.unwrap(),
        };
        at = lseek(&file, start, Whence::SeekHole).unwrap();
        let start = u64::try_from(start).unwrap();
        let mut data = vec![0; usize::try_from(at).unwrap() - usize::try_from(start).unwrap()];
        file.read_exact_at(&mut data, start).unwrap();
        for (place, block) in data.chunks(4096).enumerate() {
            if block.starts_with(bytes) {
                file.write_all_at(b"!", start + place as u64 * 4096)
                    .unwrap();
                changed += 1;
            }
        }
    }
    assert!(changed > 0);
}

#[test]
fn convert_and_status_tell_damage_from_before_and_commit_asks_with_it() {
    let (tool, (_dir, root, layer)) = (Tool::new(), damaged_root());
    let run = tool.run("convert", &root, &[]);
    run.expect(0, &[]);
    expect_told(&run.out, &root, &layer);
    expect_told(&tool.run("status", &root, &[]).out, &root, &layer);
    // A quick verification looks at a sample: what it did not look at is no better than before.
    tool.run("verify", &root, &["--quick"]);
    tool.run("verify", &root, &["--quick"]);
    let status = json_of(&tool.run("status", &root, &["--json"]));
    assert_eq!(status["damaged"][0]["layer"], *layer);
    assert_eq!(status["damaged"].as_array().unwrap().len(), 1);
    assert_eq!(tool.run("verify", &root, &["--full"]).code, Some(3));
    expect_told(&tool.run("status", &root, &[]).out, &root, &layer);
    let question = asked(&tool, &root);
    expect_told(&question, &root, &layer);
    assert!(root.join("aufs").exists());
}

#[test]
fn the_json_of_a_conversion_has_the_damaged_layers() {
    let (tool, (_dir, root, layer)) = (Tool::new(), damaged_root());
    let summary = json_of(&tool.run("convert", &root, &["--json"]));
    let damaged = summary["damaged"].as_array().unwrap();
    assert_eq!(damaged.len(), 1, "{summary}");
    assert_eq!(damaged[0]["layer"], *layer);
    assert_eq!(damaged[0]["files"]["more"], 0);
    let files = damaged[0]["files"]["first"].as_array().unwrap();
    assert!(
        files[0].as_str().unwrap().starts_with("/etc/passwd: "),
        "{summary}"
    );
    assert!(
        damaged[0]["hits"]
            .as_str()
            .unwrap()
            .starts_with("affects image ")
    );
}

/// A damaged root, converted, verified and committed.
fn committed(tool: &Tool, root: &Path) {
    tool.run("convert", root, &[]).expect(0, &[]);
    assert_eq!(verdict(tool, root, "--full"), "source-damaged");
    tool.run("commit", root, &["--yes"]).expect(0, &[]);
    assert!(!root.join("aufs").exists());
}

#[test]
fn damage_from_before_is_known_again_after_commit() {
    let (tool, (_dir, root, layer)) = (Tool::new(), damaged_root());
    committed(&tool, &root);
    let full = tool.run("verify", &root, &["--full"]);
    assert_eq!(full.code, Some(3), "{full:?}");
    assert!(
        full.out.contains("so this predates the conversion"),
        "{}",
        full.out
    );
    assert_eq!(verdict(&tool, &root, "--full"), "source-damaged");
    expect_told(&tool.run("status", &root, &[]).out, &root, &layer);
}

#[test]
fn other_damage_to_the_same_file_after_commit_is_wrong() {
    let (tool, (_dir, root, _)) = (Tool::new(), damaged_root());
    committed(&tool, &root);
    change_in_pool(&root, MARK);
    assert_eq!(verdict(&tool, &root, "--full"), "wrong");
}

#[test]
fn damage_to_another_file_of_the_layer_after_commit_is_wrong() {
    let (tool, (_dir, root, layer)) = (Tool::new(), damaged_root());
    let other = fs::read(root.join("aufs/diff").join(layer).join("bin/busybox")).unwrap();
    committed(&tool, &root);
    change_in_pool(&root, &other[..4096]);
    assert_eq!(verdict(&tool, &root, "--full"), "wrong");
}

#[test]
fn without_the_record_of_it_damage_after_commit_is_wrong_as_ever() {
    let (tool, (_dir, root, _)) = (Tool::new(), damaged_root());
    committed(&tool, &root);
    let path = root.join(".aufs2dm.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(record.as_object_mut().unwrap().remove("damaged").is_some());
    fs::write(&path, record.to_string()).unwrap();
    assert_eq!(verdict(&tool, &root, "--full"), "wrong");
}
