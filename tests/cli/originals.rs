//! The originals of the containers' configs, which `rollback` brings back: it looks at them before it moves anything.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use super::removal::Flags;
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

#[test]
fn one_is_not_taken_for_a_second_name_because_something_is_staged() {
    let (tool, root, original) = converted();
    let web = format!("containers/{}", container_id("web"));
    let place = root.path().join(&web).join("config.v2.json");
    let staged = root.path().join(".aufs2dm").join(&web);
    for directory in [staged.parent().unwrap(), &staged] {
        fs::create_dir_all(directory).unwrap();
        fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
    }
    fs::copy(&place, staged.join("config.v2.json")).unwrap();
    let before = contents(&root.path());
    let next = format!("cp -a {} {}", original.display(), place.display());
    tool.run("rollback", &root.path(), &[]).expect(1, &[&next]);
    assert_same(&before, &contents(&root.path()));
    let text = fs::read_to_string(&original).unwrap();
    let done = Command::new("sh").args(["-c", &next]).status().unwrap();
    assert!(done.success(), "{next}");
    tool.run("rollback", &root.path(), &[]).expect(0, &[]);
    assert_eq!(fs::read_to_string(&place).unwrap(), text);
    assert!(!root.path().join("devicemapper").exists());
}

#[test]
fn what_cannot_be_moved_or_replaced_is_named_before_the_first_step_back() {
    let web = format!("containers/{}", container_id("web"));
    let config = format!("{web}/config.v2.json");
    let original = format!(".aufs2dm/originals/{config}");
    for (inner, flag) in [
        (&*config, "+i"),
        (&config, "+a"),
        (&web, "+i"),
        (&original, "+i"),
        ("devicemapper", "+i"),
        ("image/devicemapper", "+a"),
        ("image", "+i"),
    ] {
        let (tool, root, _) = converted();
        let path = root.path().join(inner);
        // Not of all files in the root: each would count as written to.
        let flags = Flags(path.clone());
        flags.set(flag, &path);
        let before = contents(&root.path());
        let next = format!("chattr -i -a {}", path.display());
        let ended = tool.run("rollback", &root.path(), &[]);
        ended.expect(1, &[&next, "nothing was changed"]);
        assert_same(&before, &contents(&root.path()));
        drop(flags);
        tool.run("rollback", &root.path(), &[]).expect(0, &[]);
        assert!(!root.path().join("devicemapper").exists());
    }
}
