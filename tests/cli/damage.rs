//! Damaged roots, and entries that ext4 cannot hold.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::run::{Tool, small_root};
use super::support::fixture::unpack;
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
fn a_zero_byte_layerdb_file_is_rebuilt_and_named() {
    let (tool, root) = (Tool::new(), small_root());
    fs::write(root.layerdb("app").join("cache-id"), "").unwrap();
    let words = ["cache-id: is empty", "lab/app:1", "): rebuilt from "];
    tool.run("convert", &root.path(), &["--dry-run"])
        .expect(0, &words);
}

#[test]
fn a_container_with_an_unreadable_configuration_is_named_and_left_out() {
    let (tool, root) = (Tool::new(), small_root());
    let dir = root.path().join("containers").join(container_id("web"));
    fs::write(dir.join("config.v2.json"), "{\"ID\": ").unwrap();
    let id = container_id("web");
    let words = ["config.v2.json", &id, "left out; Docker does not show it"];
    tool.run("convert", &root.path(), &["--dry-run"])
        .expect(0, &words);
}

#[test]
fn several_faults_come_one_to_a_line() {
    let (tool, root) = (Tool::new(), small_root());
    for layer in ["app", "web rw"] {
        fs::remove_dir_all(root.branch(layer)).unwrap();
    }
    let ended = tool.run("convert", &root.path(), &[]);
    ended.expect(1, &["2 objects cannot be converted:\n  "]);
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
    // Of its many names the first at the top.
    ended.expect(1, &["/link0: more than 65000 hard links", "--fs=xfs"]);
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

/// Removes the store's record of the topmost layer of an image that nothing else is made of; gives the image's layer.
fn forget_a_layer(root: &Path) -> String {
    let store = root.join("image/aufs/layerdb");
    let parents: Vec<_> = ["sha256", "mounts"]
        .iter()
        .flat_map(|part| fs::read_dir(store.join(part)).unwrap())
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path().join("parent")).ok())
        .collect();
    let mut layers: Vec<_> = fs::read_dir(store.join("sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|layer| !parents.iter().any(|parent| parent.contains(layer)))
        .collect();
    layers.sort();
    let layer = layers.swap_remove(0);
    fs::remove_dir_all(store.join("sha256").join(&layer)).unwrap();
    layer
}

#[test]
fn what_docker_ignores_is_listed_and_the_rest_is_converted() {
    let (tool, dir) = (Tool::new(), unpack("small.tar.xz"));
    let root = dir.path().join("docker");
    let containers = root.join("containers");
    let mut ids: Vec<_> = fs::read_dir(&containers)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    ids.sort();
    let [without_config, without_container, foreign] = [&ids[0], &ids[1], &ids[2]];
    let config = containers.join(foreign).join("config.v2.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace(r#""Driver":"aufs""#, r#""Driver":"overlay2""#),
    )
    .unwrap();
    fs::remove_file(containers.join(without_config).join("config.v2.json")).unwrap();
    fs::remove_dir_all(containers.join(without_container)).unwrap();
    let layer = forget_a_layer(&root);
    let words = [
        format!("containers/{without_config}: has no config.v2.json, so Docker ignores it"),
        format!("mount {without_container}: has no container"),
        format!("its layer sha256:{layer} is missing, so Docker does not show it"),
        format!("container {foreign}: belongs to driver \"overlay2\""),
    ];

    let ended = tool.run("convert", &root, &["--json"]);
    ended.expect(0, &words.each_ref().map(String::as_str));
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    let notices = report["notices"].to_string();
    for word in &words {
        let as_json = word.replace('"', "\\\"");
        assert!(notices.contains(&as_json), "{word}: {notices}");
    }
    let switched = report["containers"].as_u64();
    assert_eq!(switched, Some(ids.len() as u64 - 3), "{report}");

    let ended = tool.run("verify", &root, &["--full", "--json"]);
    ended.expect(0, &[]);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(report["verdict"], "sound");
    // Their layers are there too: who repairs the records has not lost them.
    let of_both = |id: &str| {
        let mount = root.join("image/devicemapper/layerdb/mounts").join(id);
        let layer = fs::read_to_string(mount.join("mount-id")).unwrap();
        root.join("devicemapper/metadata").join(layer).exists()
    };
    assert!(of_both(without_config) && of_both(without_container));
}
