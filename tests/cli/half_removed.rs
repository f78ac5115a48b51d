//! Containers that Docker removed in part: what the survey accepts, the verification accepts too.

use std::fs;
use std::path::PathBuf;

use super::run::{Tool, small_root};
use super::support::root::{AufsRoot, container_id};

/// What is left of the container's directory.
#[derive(Clone, Copy, Debug)]
enum Config {
    Dead,
    Gone,
    DirectoryGone,
}

/// The other parts of a container, each of which may be gone.
const PARTS: [&str; 4] = ["branch", "list", "init", "mount"];

fn root() -> AufsRoot {
    small_root().container("half", ("lab/app:1", "app"), |l| l.file("log", "half"))
}

fn remove(root: &AufsRoot, part: &str) {
    let list = |layer: &str| root.path().join("aufs/layers").join(root.id(layer));
    match part {
        // Docker renames a branch before it deletes it.
        "branch" => {
            let mut removing = root.branch("half rw").into_os_string();
            removing.push("-removing");
            fs::rename(root.branch("half rw"), PathBuf::from(removing)).unwrap();
        }
        "list" => fs::remove_file(list("half rw")).unwrap(),
        "init" => {
            fs::remove_dir_all(root.branch("half init")).unwrap();
            fs::remove_file(list("half init")).unwrap();
        }
        _ => {
            let mounts = root.path().join("image/aufs/layerdb/mounts");
            fs::remove_dir_all(mounts.join(container_id("half"))).unwrap();
        }
    }
}

fn remove_config(root: &AufsRoot, config: Config) {
    let dir = root.path().join("containers").join(container_id("half"));
    let file = dir.join("config.v2.json");
    match config {
        Config::Dead => {
            let text = fs::read_to_string(&file).unwrap();
            let dead = text.replace(r#""State":{"#, r#""State":{"Dead":true,"#);
            assert_ne!(text, dead);
            fs::write(&file, dead).unwrap();
        }
        Config::Gone => fs::remove_file(&file).unwrap(),
        Config::DirectoryGone => fs::remove_dir_all(&dir).unwrap(),
    }
}

/// Either refused before anything is written, or converted and found good: never written and taken back.
fn agree(config: Config) {
    let mut converted = 0;
    for set in 0..1_u32 << PARTS.len() {
        let (tool, root) = (Tool::new(), root());
        let gone: Vec<_> = (0..PARTS.len())
            .filter(|at| set >> at & 1 == 1)
            .map(|at| PARTS[at])
            .collect();
        remove_config(&root, config);
        for part in &gone {
            remove(&root, part);
        }
        let dry = tool.run("convert", &root.path(), &["--dry-run"]);
        let ended = tool.run("convert", &root.path(), &[]);
        assert_eq!(
            dry.code, ended.code,
            "{config:?} {gone:?}: {dry:?} {ended:?}"
        );
        if ended.code == Some(1) {
            assert!(
                !ended.err.contains("writing data"),
                "{config:?} {gone:?}: {ended:?}"
            );
            continue;
        }
        assert_eq!(ended.code, Some(0), "{config:?} {gone:?}: {ended:?}");
        let verified = tool.run("verify", &root.path(), &["--full"]);
        assert_eq!(verified.code, Some(0), "{config:?} {gone:?}: {verified:?}");
        converted += 1;
    }
    // The usual orders among them.
    assert!(converted >= 8, "{config:?}: {converted}");
}

#[test]
fn a_dead_container_without_some_of_its_parts_keeps_no_host_from_being_converted() {
    agree(Config::Dead);
}

#[test]
fn a_container_without_a_config_and_some_of_its_parts_keeps_no_host_from_being_converted() {
    agree(Config::Gone);
}

#[test]
fn parts_of_a_container_that_is_gone_keep_no_host_from_being_converted() {
    agree(Config::DirectoryGone);
}

#[test]
fn the_half_removed_container_is_named() {
    let (tool, root) = (Tool::new(), root());
    remove_config(&root, Config::Dead);
    remove(&root, "branch");
    remove(&root, "list");
    let id = container_id("half");
    let ended = tool.run("convert", &root.path(), &[]);
    ended.expect(0, &[&id, "nothing uses it, so it is not converted"]);
}
