//! A conversion whose journal was lost: nothing is guessed, nothing is touched.

use std::fs::{self, OpenOptions};
use std::path::Path;

use super::run::{Tool, small_root};
use super::support::root::container_id;
use super::support::trace::{assert_same, contents};

/// A name for it, and what does it.
type Loss = (&'static str, fn(&Path));

/// What a disk, or `fsck`, makes of a journal.
const LOSSES: [Loss; 5] = [
    ("gone", |journal| fs::remove_file(journal).unwrap()),
    ("empty", |journal| cut(journal, 0)),
    ("torn in its first line", |journal| cut(journal, 100)),
    ("zeros", |journal| {
        cut(journal, 0);
        cut(journal, 4000);
    }),
    ("a flipped bit", |journal| {
        let mut bytes = fs::read(journal).unwrap();
        bytes[20] ^= 1;
        fs::write(journal, bytes).unwrap();
    }),
];

fn cut(journal: &Path, length: u64) {
    let file = OpenOptions::new().write(true).open(journal).unwrap();
    file.set_len(length).unwrap();
}

/// Every command that could change something, and `status`, refuses and changes nothing.
#[track_caller]
fn refused_by_all(tool: &Tool, root: &Path, how: &str) {
    let before = contents(root);
    for (verb, options) in [
        ("status", &[][..]),
        ("convert", &[]),
        ("convert", &["--dry-run"]),
        ("resume", &[]),
        ("rollback", &[]),
        ("rollback", &["--force"]),
        ("commit", &["--yes"]),
    ] {
        let ended = tool.run(verb, root, options);
        assert_eq!(ended.code, Some(1), "{verb}, {how}: {ended:?}");
        for word in [".aufs2dm/journal", "When the journal is lost"] {
            assert!(ended.err.contains(word), "{verb}, {how}: {ended:?}");
        }
        assert_same(&before, &contents(root));
    }
    assert!(!tool.pid_file().exists());
}

#[test]
fn a_converted_root_without_its_journal_is_left_alone() {
    for (how, lose) in LOSSES {
        let (tool, root) = (Tool::new(), small_root());
        tool.run("convert", &root.path(), &[]).expect(0, &[]);
        lose(&root.path().join(".aufs2dm/journal"));
        refused_by_all(&tool, &root.path(), how);
        assert!(root.path().join(".aufs2dm/originals").exists(), "{how}");
    }
}

#[test]
fn a_journal_that_ends_before_the_move_is_not_believed() {
    let (tool, root) = (Tool::new(), small_root());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    let journal = root.path().join(".aufs2dm/journal");
    let text = fs::read_to_string(&journal).unwrap();
    let first = text.lines().next().unwrap().len() as u64 + 1;
    cut(&journal, first);
    refused_by_all(&tool, &root.path(), "cut after its first line");
}

#[test]
fn originals_that_are_the_only_copy_are_not_removed_whatever_lies_in_the_staging_directory() {
    let (tool, root) = (Tool::new(), small_root());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    let stage = root.path().join(".aufs2dm");
    let journal = stage.join("journal");
    let text = fs::read_to_string(&journal).unwrap();
    cut(&journal, text.lines().next().unwrap().len() as u64 + 1);
    // As if layers were being written.
    fs::rename(root.path().join("devicemapper"), stage.join("devicemapper")).unwrap();
    refused_by_all(
        &tool,
        &root.path(),
        "with the pool in the staging directory",
    );
    fs::rename(root.path().join("image/devicemapper"), stage.join("image")).unwrap();
    refused_by_all(&tool, &root.path(), "with all in the staging directory");
    // With the originals in place again, nothing of the root is missed.
    let kept = stage.join("originals/containers").join(container_id("web"));
    let place = root.path().join("containers").join(container_id("web"));
    for entry in fs::read_dir(kept).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), place.join(entry.file_name())).unwrap();
    }
    tool.run("rollback", &root.path(), &[]).expect(0, &[]);
    assert!(!stage.exists());
}

#[test]
fn each_part_of_a_conversion_shows_that_a_journal_was_lost() {
    for part in [
        "originals",
        "devicemapper",
        "image",
        "containers",
        "removed",
        "claim.json",
    ] {
        let (tool, root) = (Tool::new(), small_root());
        let stage = root.path().join(".aufs2dm");
        private_dir(&stage);
        if part == "claim.json" {
            private_file(&stage.join(part), "{}");
        } else {
            private_dir(&stage.join(part));
        }
        refused_by_all(&tool, &root.path(), part);
    }
}

#[test]
fn a_start_that_was_interrupted_before_anything_was_made_is_replaced() {
    for journal in [None, Some(""), Some("{\"record\":\"beg")] {
        let (tool, root) = (Tool::new(), small_root());
        let stage = root.path().join(".aufs2dm");
        private_dir(&stage);
        if let Some(text) = journal {
            private_file(&stage.join("journal"), text);
        }
        tool.run("convert", &root.path(), &[]).expect(0, &[]);
        assert!(root.path().join("devicemapper/metadata/base").exists());
    }
}

#[test]
fn verify_says_that_the_journal_is_lost_and_judges_the_rest() {
    for (how, lose) in LOSSES {
        let (tool, root) = (Tool::new(), small_root());
        tool.run("convert", &root.path(), &[]).expect(0, &[]);
        lose(&root.path().join(".aufs2dm/journal"));
        let sound = told(&tool, &root.path(), how);
        assert!(sound.contains("no fault in the rest"), "{how}: {sound}");
        assert!(!sound.contains("WRONG"), "{how}: {sound}");
        let metadata = root.path().join("devicemapper/metadata");
        fs::remove_file(metadata.join("base")).unwrap();
        let faulty = told(&tool, &root.path(), how);
        assert!(faulty.contains("FAULTS IN THE REST"), "{how}: {faulty}");
        assert!(faulty.contains("metadata/base"), "{how}: {faulty}");
    }
}

/// What `verify --full` says of a root without its journal; no command that would refuse is advised.
#[track_caller]
fn told(tool: &Tool, root: &Path, how: &str) -> String {
    let ended = tool.run("verify", root, &["--full"]);
    assert_eq!(ended.code, Some(3), "{how}: {ended:?}");
    for word in [
        "THE JOURNAL OF THE CONVERSION IS LOST",
        "next: keep Docker stopped",
        "When the journal is lost",
    ] {
        assert_eq!(ended.out.matches(word).count(), 1, "{how}: {ended:?}");
    }
    assert!(!ended.out.contains("rollback"), "{how}: {ended:?}");
    assert_eq!(
        ended.out.matches(".aufs2dm/journal: ").count(),
        1,
        "{how}: {ended:?}"
    );
    ended.out
}

#[test]
fn no_rollback_is_advised_where_no_conversion_is_known() {
    let (tool, root) = (Tool::new(), small_root());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    fs::remove_dir_all(root.path().join(".aufs2dm")).unwrap();
    fs::remove_file(root.path().join("devicemapper/metadata/base")).unwrap();
    let ended = tool.run("verify", &root.path(), &["--full"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(
        ended.out.contains("no conversion by aufs2dm is known"),
        "{ended:?}"
    );
    assert!(!ended.out.contains("aufs2dm rollback"), "{ended:?}");
}

fn private_dir(path: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(path).unwrap();
}

fn private_file(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
