//! The test roots themselves: what other tests take for granted of them.

use std::fs;

use serde_json::Value;

use crate::support::merge::reference_merge;
use crate::support::root::{AufsRoot, container_id};

fn root() -> AufsRoot {
    AufsRoot::new()
        .layer("base", |l| l.file("etc/hosts", "").file("etc/motd", ""))
        .layer("app", |l| l.whiteout("etc/motd").file("app", "v1"))
        .image("lab/base:1", "base")
        .image("lab/app:1", "app")
        .container("web", ("lab/app:1", "app"), |l| l.file("data", "x"))
}

#[test]
fn a_made_root_has_its_chain_of_layers_nearest_first() {
    let root = root();
    let lines =
        fs::read_to_string(root.path().join("aufs/layers").join(root.id("web rw"))).unwrap();
    let ids: Vec<_> = lines.lines().collect();
    assert_eq!(ids, [root.id("web init"), root.id("app"), root.id("base")]);
    let base = fs::read_to_string(root.path().join("aufs/layers").join(root.id("base"))).unwrap();
    assert_eq!(base, "");
}

#[test]
fn a_made_container_shows_all_its_layers() {
    let root = root();
    let merged = reference_merge(&root.branches("web rw"));
    let has = |path: &str| merged.entries.contains_key(path.as_bytes());
    assert!(has("/data") && has("/app") && has("/etc/hosts") && has("/.dockerenv"));
    assert!(!has("/etc/motd") && !has("/.wh..wh.aufs"));
}

#[test]
fn a_made_roots_records_refer_to_each_other() {
    let root = root();
    let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
    let tags: Value = serde_json::from_str(&read("image/aufs/repositories.json")).unwrap();
    let image = tags["Repositories"]["lab/app"]["lab/app:1"]
        .as_str()
        .unwrap();
    let hex = image.strip_prefix("sha256:").unwrap();
    let content = read(&format!("image/aufs/imagedb/content/sha256/{hex}"));
    let config: Value = serde_json::from_str(&content).unwrap();
    let top = fs::read_to_string(root.layerdb("app").join("diff")).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"][1], top);
    let parent = fs::read_to_string(root.layerdb("app").join("parent")).unwrap();
    assert!(
        root.layerdb("base")
            .ends_with(parent.strip_prefix("sha256:").unwrap())
    );

    let container = container_id("web");
    let config: Value =
        serde_json::from_str(&read(&format!("containers/{container}/config.v2.json"))).unwrap();
    assert_eq!(config["Image"], image);
    let mounts = format!("image/aufs/layerdb/mounts/{container}");
    assert_eq!(read(&format!("{mounts}/mount-id")), root.id("web rw"));
    let chain = read(&format!("{mounts}/parent"));
    assert!(
        root.layerdb("app")
            .ends_with(chain.strip_prefix("sha256:").unwrap())
    );
}
