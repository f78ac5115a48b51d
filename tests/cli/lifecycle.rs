//! What comes after a conversion, and after one that was interrupted.

use std::fs;
use std::path::Path;

use super::interrupted::wait_for;
use super::run::{Tool, large_root, small_root};
use super::support::fixture::unpack;
use super::support::root::container_id;
use super::support::trace::{assert_same, contents, trace_but_reads};

fn state(tool: &Tool, root: &Path) -> String {
    let status = tool.run("status", root, &["--json"]);
    status.expect(0, &[]);
    let status: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    status["state"].as_str().unwrap().to_owned()
}

/// Kills a conversion as soon as layers are being written.
fn kill_early(tool: &Tool, root: &Path) {
    let mut child = tool.start(root, &["--jobs", "1", "--checkpoint", "0"]);
    wait_for(&root.join(".aufs2dm/devicemapper/devicemapper/data"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_rollback_brings_the_root_back_to_the_byte() {
    let (tool, dir) = (Tool::new(), unpack("small.tar.xz"));
    let root = dir.path().join("docker");
    let before = trace_but_reads(&root);
    tool.run("convert", &root, &[]).expect(0, &[]);
    assert_eq!(state(&tool, &root), "converted");
    tool.run("rollback", &root, &[]).expect(0, &[]);
    assert_same(&before, &trace_but_reads(&root));
    assert_eq!(state(&tool, &root), "none");
    // And forth again.
    tool.run("convert", &root, &[]).expect(0, &[]);
    assert_eq!(state(&tool, &root), "converted");
}

#[test]
fn an_empty_image_store_that_stood_in_the_way_comes_back() {
    let (tool, root) = (Tool::new(), small_root());
    fs::create_dir(root.path().join("image/devicemapper")).unwrap();
    let before = trace_but_reads(&root.path());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    tool.run("rollback", &root.path(), &[]).expect(0, &[]);
    assert_same(&before, &trace_but_reads(&root.path()));
}

#[test]
fn a_killed_conversion_goes_on() {
    let (tool, root) = (Tool::new(), large_root());
    kill_early(&tool, &root.path());
    assert_eq!(state(&tool, &root.path()), "writing");
    tool.run("resume", &root.path(), &[]).expect(0, &[]);
    assert_eq!(state(&tool, &root.path()), "converted");
    assert!(root.path().join("devicemapper/metadata/base").exists());
    tool.run("resume", &root.path(), &[]).expect(0, &[]);
    assert_eq!(state(&tool, &root.path()), "converted");
}

#[test]
fn a_killed_conversion_is_taken_back() {
    let (tool, root) = (Tool::new(), large_root());
    let before = contents(&root.path());
    kill_early(&tool, &root.path());
    tool.run("rollback", &root.path(), &[]).expect(0, &[]);
    assert_same(&before, &contents(&root.path()));
}

#[test]
fn where_nothing_was_begun_nothing_is_resumed_and_nothing_taken_back() {
    let (tool, root) = (Tool::new(), small_root());
    let before = trace_but_reads(&root.path());
    tool.run("resume", &root.path(), &[])
        .expect(1, &["nothing to resume", "aufs2dm convert"]);
    let ended = tool.run("rollback", &root.path(), &[]);
    ended.expect(0, &[]);
    assert!(ended.out.contains("nothing was done"), "{}", ended.out);
    tool.run("commit", &root.path(), &["--yes"])
        .expect(1, &["no finished conversion"]);
    assert_same(&before, &trace_but_reads(&root.path()));
}

#[test]
fn what_docker_did_since_is_listed_and_only_force_loses_it() {
    let (tool, root) = (Tool::new(), small_root());
    let before = contents(&root.path());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    let config = root
        .path()
        .join("containers")
        .join(container_id("web"))
        .join("config.v2.json");
    let text = fs::read_to_string(&config).unwrap();
    // As Docker replaces it.
    fs::write(config.with_extension("new"), text.replace('}', " }")).unwrap();
    fs::rename(config.with_extension("new"), &config).unwrap();
    fs::write(root.path().join("devicemapper/metadata/abc"), "{}").unwrap();
    let converted = contents(&root.path());
    tool.run("rollback", &root.path(), &[]).expect(
        1,
        &["Docker has worked", "web", "new layers (abc)", "--force"],
    );
    assert_same(&converted, &contents(&root.path()));
    let status = tool.run("status", &root.path(), &[]);
    assert!(status.out.contains("new layers (abc)"), "{}", status.out);
    tool.run("rollback", &root.path(), &["--force"])
        .expect(0, &["lost with the devicemapper side"]);
    assert_same(&before, &contents(&root.path()));
}

#[test]
fn the_aufs_side_stays_until_all_was_verified() {
    let (tool, root) = (Tool::new(), small_root());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    let before = trace_but_reads(&root.path());
    tool.run("commit", &root.path(), &["--yes"])
        .expect(1, &["no full verification", "aufs2dm verify --full"]);
    assert_same(&before, &trace_but_reads(&root.path()));
}

#[test]
fn a_source_that_changed_is_not_gone_on_with() {
    let (tool, root) = (Tool::new(), large_root());
    kill_early(&tool, &root.path());
    fs::write(root.branch("base").join("new"), "x").unwrap();
    tool.run("resume", &root.path(), &[])
        .expect(1, &["changed since the conversion was started", "rollback"]);
    tool.run("rollback", &root.path(), &[]).expect(0, &[]);
}
