//! Parts of the aufs side that were moved to another disk, with a symbolic link in their place.

use std::fs;
use std::os::unix::fs::symlink;

use super::run::{Tool, small_root};
use super::support::trace::{assert_same, contents};

#[test]
fn linked_parts_of_aufs_are_converted_and_nothing_is_removed_behind_the_link() {
    for part in ["diff", "layers"] {
        let (tool, root) = (Tool::new(), small_root());
        let (at, elsewhere) = (
            root.path().join("aufs").join(part),
            root.path().with_file_name(part),
        );
        fs::rename(&at, &elsewhere).unwrap();
        symlink(&elsewhere, &at).unwrap();
        let before = contents(&elsewhere);
        let run = |verb: &str, code: i32, options: &[&str]| {
            let ended = tool.run(verb, &root.path(), options);
            ended.expect(code, &[]);
            ended
        };
        run("inspect", 0, &[]);
        run("convert", 0, &["--dry-run"]);
        run("convert", 0, &[]);
        run("rollback", 0, &[]);
        run("convert", 0, &[]);
        run("verify", 0, &["--full"]);
        let refused = run("commit", 1, &["--yes"]);
        assert!(refused.err.contains("is a symbolic link to"), "{refused:?}");
        assert!(at.is_symlink());
        assert_same(&before, &contents(&elsewhere));

        // The two ways that it names.
        fs::remove_file(&at).unwrap();
        if part == "layers" {
            fs::rename(&elsewhere, &at).unwrap();
            run("verify", 0, &["--full"]);
            run("commit", 0, &["--yes"]);
        } else {
            fs::remove_dir_all(&elsewhere).unwrap();
            fs::create_dir(&at).unwrap();
            run("verify", 3, &["--full"]);
            run("commit", 0, &["--yes", "--drop-aufs-changes"]);
        }
        assert!(!root.path().join("aufs").exists());
        run("verify", 0, &["--full"]);
    }
}
