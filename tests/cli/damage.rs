//! Damaged roots, and entries that ext4 cannot hold.

use std::fs;
use std::path::PathBuf;

use super::run::{Tool, small_root};
use super::support::root::{AufsRoot, container_id};
use super::support::trace::{assert_same, contents};

/// Damages a fresh root; the run must name all the words and change nothing.
#[track_caller]
fn refused(damage: impl FnOnce(&AufsRoot), words: &[&str]) {
    let (tool, root) = (Tool::new(), small_root());
    damage(&root);
    let before = contents(&root.path());
    let ended = tool.run("convert", &root.path(), &[]);
    ended.expect(1, words);
    assert_same(&before, &contents(&root.path()));
    assert!(!tool.pid_file().exists());
}

fn list_of(root: &AufsRoot, layer: &str) -> PathBuf {
    root.path().join("aufs/layers").join(root.id(layer))
}

#[test]
fn a_missing_branch_names_its_image_and_container() {
    let damage = |root: &AufsRoot| fs::remove_dir_all(root.branch("app")).unwrap();
    refused(damage, &["aufs/diff/", "missing", "lab/app:1", "web"]);
}

#[test]
fn a_missing_parent_is_named() {
    let damage = |root: &AufsRoot| {
        fs::remove_file(list_of(root, "base")).unwrap();
        fs::remove_dir_all(root.branch("base")).unwrap();
    };
    refused(damage, &["missing", "lab/app:1"]);
}

#[test]
fn a_parent_cycle_is_named() {
    let damage = |root: &AufsRoot| {
        fs::write(list_of(root, "base"), format!("{}\n", root.id("app"))).unwrap();
    };
    refused(damage, &["lead back to itself", "lab/app:1"]);
}

#[test]
fn a_zero_byte_layerdb_file_is_named() {
    let damage = |root: &AufsRoot| fs::write(root.layerdb("app").join("cache-id"), "").unwrap();
    refused(damage, &["cache-id", "is empty", "lab/app:1"]);
}

#[test]
fn an_unreadable_container_configuration_is_named() {
    let damage = |root: &AufsRoot| {
        let dir = root.path().join("containers").join(container_id("web"));
        fs::write(dir.join("config.v2.json"), "{\"ID\": ").unwrap();
    };
    refused(damage, &["config.v2.json", &container_id("web")]);
}

#[test]
fn several_faults_come_one_to_a_line() {
    let (tool, root) = (Tool::new(), small_root());
    fs::write(root.layerdb("app").join("cache-id"), "").unwrap();
    fs::write(root.layerdb("base").join("diff"), "").unwrap();
    let ended = tool.run("convert", &root.path(), &[]);
    ended.expect(1, &["problems:\n  "]);
    let lines = ended.err.lines().filter(|line| line.starts_with("  "));
    assert!(lines.count() >= 2, "{}", ended.err);
}

#[test]
fn attributes_above_one_block_are_named() {
    let (tool, root) = (Tool::new(), small_root());
    // On a file system that holds them.
    let value = vec![b'x'; 3000];
    let file = root.branch("base").join("bin/sh");
    let set = |name: &str| xattr::set(&file, name, &value);
    if set("user.one").and_then(|()| set("user.two")).is_ok() {
        let before = contents(&root.path());
        tool.run("convert", &root.path(), &[])
            .expect(1, &["/bin/sh"]);
        assert_same(&before, &contents(&root.path()));
        return;
    }
    on_tmpfs(|root| {
        let file = root.join("bin/sh");
        xattr::set(&file, "trusted.one", &value).unwrap();
        xattr::set(&file, "trusted.two", &value).unwrap();
    })
    .expect(1, &["/bin/sh"]);
}

#[test]
fn more_than_65000_links_are_named() {
    let ended = on_tmpfs(|branch| {
        for n in 0..65_001 {
            fs::hard_link(branch.join("bin/sh"), branch.join(format!("link{n}"))).unwrap();
        }
    });
    ended.expect(1, &["/bin/sh", "65"]);
}

/// Converts a root on a file system without ext4's limits.
fn on_tmpfs(change_base: impl FnOnce(&std::path::Path)) -> super::run::Ended {
    let (tool, root) = (Tool::new(), small_root());
    let disk = super::space::Disk::tmpfs("512m", &root.path());
    let branch = disk.root().join("aufs/diff").join(root.id("base"));
    change_base(&branch);
    let ended = tool.run("convert", &disk.root(), &[]);
    assert!(!disk.root().join(".aufs2dm").exists());
    assert!(!disk.root().join("devicemapper").exists());
    ended
}
