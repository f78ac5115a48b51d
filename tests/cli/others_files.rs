//! Files that an operator has put into directories which `rollback` or `commit` removes whole: they are named, and none is lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::interrupted::wait_for;
use super::run::{Ended, Tool, large_root, small_root};
use super::support::root::{AufsRoot, container_id};
use super::support::trace::{assert_same, contents};

fn converted() -> (Tool, AufsRoot) {
    let (tool, root) = (Tool::new(), small_root());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    (tool, root)
}

/// A file of the operator's, in a directory of its own if need be.
fn precious(root: &Path, inner: &str) -> PathBuf {
    let path = root.join(inner);
    let parent = path.parent().unwrap();
    if !parent.exists() {
        fs::create_dir_all(parent).unwrap();
        fs::set_permissions(parent, fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::write(&path, "precious").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// The first of the commands that come next, as it is printed, in a shell.
fn do_as_told(ended: &Ended) {
    let (_, next) = ended.err.split_once("Next: `").unwrap();
    let (command, _) = next.split_once('`').unwrap();
    let done = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(done.success(), "{command}");
}

/// Refused by the file's name whatever is waived, and done when it was moved as told.
fn kept(tool: &Tool, root: &Path, file: &Path, (verb, options): (&str, &[&str])) {
    let before = contents(root);
    let name = file.display().to_string();
    let again = format!("then `aufs2dm {verb}");
    let ended = tool.run(verb, root, options);
    ended.expect(1, &[&name, &again, "nothing was changed"]);
    assert_same(&before, &contents(root));
    do_as_told(&ended);
    assert!(!file.exists());
    tool.run(verb, root, options).expect(0, &[]);
    let moved = root.join("kept-files").join(file.file_name().unwrap());
    assert_eq!(fs::read_to_string(moved).unwrap(), "precious");
}

#[test]
fn a_rollback_names_what_it_would_remove_of_somebody_else_and_force_is_no_waiver() {
    let originals = format!(".aufs2dm/originals/containers/{}", container_id("web"));
    for inner in [
        "devicemapper/notes.txt",
        "devicemapper/backup/data",
        "devicemapper/metadata/README",
        "devicemapper/devicemapper/data.old",
        "devicemapper/mnt/x/rootfs/file",
        "image/devicemapper/notes.txt",
        "image/devicemapper/imagedb/notes.txt",
        "image/devicemapper/it's mine",
        ".aufs2dm/notes.txt",
        &format!("{originals}/notes.txt"),
    ] {
        for options in [&[][..], &["--force"], &["--force", "--onto-damaged"]] {
            let (tool, root) = converted();
            let mut file = precious(&root.path(), inner);
            if inner.ends_with("backup/data") {
                // The whole directory is named.
                file.pop();
                let (tool, root) = (&tool, &root.path());
                tool.run("rollback", root, options)
                    .expect(1, &[&file.display().to_string()]);
                continue;
            }
            kept(&tool, &root.path(), &file, ("rollback", options));
            assert!(!root.path().join("devicemapper").exists());
        }
    }
}

#[test]
fn what_was_on_aufs_before_is_no_reason_to_refuse() {
    let (tool, root) = (Tool::new(), small_root());
    precious(&root.path(), "image/aufs/notes.txt");
    precious(&root.path(), "image/aufs/imagedb/notes.txt");
    let before = contents(&root.path());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    tool.run("rollback", &root.path(), &[]).expect(0, &[]);
    assert_same(&before, &contents(&root.path()));
}

#[test]
fn a_commit_names_what_it_would_remove_with_its_journal() {
    let (tool, root) = converted();
    tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
    // What stays is nobody's business.
    precious(&root.path(), "devicemapper/notes.txt");
    let file = precious(&root.path(), ".aufs2dm/notes.txt");
    kept(&tool, &root.path(), &file, ("commit", &["--yes"]));
    assert!(root.path().join("devicemapper/notes.txt").exists());
}

#[test]
fn what_lies_in_an_interrupted_conversion_is_named_whatever_comes_next() {
    for (verb, options) in [
        ("rollback", &[][..]),
        ("resume", &[]),
        ("convert", &["--restart"]),
    ] {
        let (tool, root) = (Tool::new(), large_root());
        let mut child = tool.start(&root.path(), &["--jobs", "1", "--checkpoint", "0"]);
        let home = ".aufs2dm/devicemapper/devicemapper";
        wait_for(&root.path().join(home).join("data"));
        child.kill().unwrap();
        child.wait().unwrap();
        let file = precious(&root.path(), &format!("{home}/notes.txt"));
        kept(&tool, &root.path(), &file, (verb, options));
    }
}
