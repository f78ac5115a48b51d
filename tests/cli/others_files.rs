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

/// A file of the operator's, in directories of its own if need be.
fn precious(root: &Path, inner: &str) -> PathBuf {
    let path = root.join(inner);
    let above = path.ancestors().skip(1);
    let missing: Vec<_> = above.take_while(|above| !above.exists()).collect();
    for directory in missing.into_iter().rev() {
        fs::create_dir(directory).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
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
        "devicemapper/metadata/.mynotes",
        "devicemapper/metadata/.tmpnotes",
        "image/devicemapper/.tmpnotes",
        "image/devicemapper/repositories.json.old",
        "image/devicemapper/distribution/x/notes",
        "image/devicemapper/layerdb/tmp/notes",
        "image/devicemapper/layerdb/tmp/write-set-1/notes",
        ".aufs2dm/notes.txt",
        ".aufs2dm/mnt/f",
        ".aufs2dm/verify/f",
        ".aufs2dm/removed/f",
        ".aufs2dm/removed/aufs/f",
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
fn a_directory_with_the_name_of_a_file_that_docker_writes_is_named_whole() {
    for inner in [
        "devicemapper/metadata/.old",
        "devicemapper/metadata/.tmp123",
        "devicemapper/metadata/old",
        ".aufs2dm/committed.json",
    ] {
        let (tool, root) = converted();
        precious(&root.path(), &format!("{inner}/precious"));
        let named = root.path().join(inner);
        let before = contents(&root.path());
        let ended = tool.run("rollback", &root.path(), &["--force"]);
        ended.expect(1, &[&named.display().to_string(), "nothing was changed"]);
        assert_same(&before, &contents(&root.path()));
        do_as_told(&ended);
        tool.run("rollback", &root.path(), &["--force"])
            .expect(0, &[]);
        let kept = root
            .path()
            .join("kept-files")
            .join(named.file_name().unwrap());
        assert!(kept.join("precious").exists());
    }
}

#[test]
fn what_a_killed_docker_leaves_of_its_own_is_no_reason_to_refuse() {
    let id = "5".repeat(64);
    let (tool, root) = converted();
    for inner in [
        "devicemapper/metadata/.tmp123456789",
        "image/devicemapper/.tmp-repositories.json123456789",
        "image/devicemapper/layerdb/tmp/write-set-123456789/diff",
        &format!("image/devicemapper/distribution/v2metadata-by-diffid/sha256/{id}"),
        &format!("image/devicemapper/distribution/diffid-by-digest/sha256/.tmp-{id}12"),
    ] {
        precious(&root.path(), inner);
    }
    tool.run("rollback", &root.path(), &[]).expect(0, &[]);
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
    for inner in ["mnt/f", "verify/f", "removed/f", "notes.txt"] {
        let file = precious(&root.path(), &format!(".aufs2dm/{inner}"));
        if inner == "notes.txt" {
            kept(&tool, &root.path(), &file, ("commit", &["--yes"]));
        } else {
            let ended = tool.run("commit", &root.path(), &["--yes"]);
            ended.expect(1, &[&file.display().to_string(), "nothing was changed"]);
            do_as_told(&ended);
            assert!(!file.exists());
            fs::remove_dir_all(root.path().join("kept-files")).unwrap();
        }
    }
    assert!(root.path().join("devicemapper/notes.txt").exists());
}

#[test]
fn what_lies_in_an_interrupted_conversion_is_named_whatever_comes_next() {
    let runs = [
        ("rollback", &[][..]),
        ("resume", &[]),
        ("convert", &["--restart"]),
    ];
    for (place, (verb, options)) in runs.into_iter().enumerate() {
        let (tool, root) = (Tool::new(), large_root());
        let mut child = tool.start(&root.path(), &["--jobs", "1", "--checkpoint", "0"]);
        let home = ".aufs2dm/devicemapper/devicemapper";
        wait_for(&root.path().join(home).join("data"));
        child.kill().unwrap();
        child.wait().unwrap();
        let inner = [home, ".aufs2dm/devicemapper/metadata", ".aufs2dm/image"][place];
        let file = precious(&root.path(), &format!("{inner}/notes.txt"));
        kept(&tool, &root.path(), &file, (verb, options));
    }
}
