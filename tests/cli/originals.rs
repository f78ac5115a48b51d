//! The originals of the containers' configs, which `rollback` brings back: it looks at them before it moves anything.

use std::fs;
use std::path::PathBuf;

use super::run::{Tool, small_root};
use super::support::root::{AufsRoot, container_id};
use super::support::trace::{assert_same, contents};

fn converted() -> (Tool, AufsRoot, PathBuf) {
    let (tool, root) = (Tool::new(), small_root());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    let web = format!("originals/containers/{}", container_id("web"));
    let original = root
        .path()
        .join(".aufs2dm")
        .join(web)
        .join("config.v2.json");
    assert!(original.exists());
    (tool, root, original)
}

#[test]
fn one_that_is_gone_or_damaged_is_named_before_anything_is_moved() {
    for damage in [None, Some(r#"{"Driver":"aufs"}"#), Some("")] {
        let (tool, root, original) = converted();
        match damage {
            None => fs::remove_file(&original).unwrap(),
            Some(text) => fs::write(&original, text).unwrap(),
        }
        let before = contents(&root.path());
        let name = format!("{}: ", original.display());
        for options in [&[][..], &["--force"]] {
            let words = [&*name, "nothing was changed", "rollback --onto-damaged"];
            tool.run("rollback", &root.path(), options)
                .expect(1, &words);
            assert_same(&before, &contents(&root.path()));
        }
        let ended = tool.run("rollback", &root.path(), &["--onto-damaged"]);
        ended.expect(0, &[&name]);
        assert!(!root.path().join("devicemapper").exists());
    }
}
