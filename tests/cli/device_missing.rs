//! A converted root whose pool is on devices that are not there, as after a boot before LVM has activated them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::forged_journal::sealed;
use super::run::{Tool, small_root};
use super::support::root::AufsRoot;
use super::support::trace::{assert_same, contents};

/// A converted and verified root whose journal says that the pool is there.
fn converted_onto(writer: &Value) -> (Tool, AufsRoot) {
    let (tool, root) = (Tool::new(), small_root());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
    let path = root.path().join(".aufs2dm/journal");
    let journal = fs::read_to_string(&path).unwrap();
    let (first, rest) = journal.split_once('\n').unwrap();
    let mut line: Value = serde_json::from_str(first).unwrap();
    line.as_object_mut().unwrap().remove("crc64");
    line["order"]["writer"] = writer.clone();
    fs::write(&path, sealed(&line.to_string()) + rest).unwrap();
    (tool, root)
}

fn kernel(target: &Value) -> Value {
    json!({"kernel": {"target": target, "file_system": "ext4"}})
}

fn thin_pool(path: &str) -> Value {
    kernel(&json!({"thin-pool": {"path": path}}))
}

/// `verify` and `commit` name the device and what brings it, which is no damage, and change nothing.
fn told(writer: &Value, words: &[&str]) {
    let (tool, root) = converted_onto(writer);
    let before = contents(&root.path());
    for (verb, options) in [
        ("verify", &["--full"][..]),
        ("verify", &[]),
        ("commit", &["--yes"]),
    ] {
        let ended = tool.run(verb, &root.path(), options);
        ended.expect(1, &[words, &["nothing was verified"]].concat());
        assert_same(&before, &contents(&root.path()));
    }
    let status = tool.run("status", &root.path(), &[]);
    status.expect(0, &[]);
    assert!(status.out.contains("verified: in full"), "{status:?}");
    assert!(Path::new(&root.path()).join("aufs/diff").exists());
}

#[test]
fn a_pool_of_lvm_that_is_not_active_is_no_damage_and_its_command_is_printed() {
    let words = [
        "/dev/mapper/aufs2dm--none-thin--pool: there is no such device",
        "`lvchange -ay aufs2dm-none/thin-pool`",
        "`vgchange -ay aufs2dm-none`",
    ];
    told(&thin_pool("/dev/mapper/aufs2dm--none-thin--pool"), &words);
}

#[test]
fn given_devices_that_are_not_attached_are_no_damage() {
    let devices = json!({"data": "/dev/aufs2dm-none1", "metadata": "/dev/aufs2dm-none/meta"});
    let words = [
        "/dev/aufs2dm-none1: there is no such device",
        "attach its disk",
    ];
    told(&kernel(&json!({"devices": devices})), &words);
}
