//! Roots that have `containers/` on a mount of its own: its configs are staged and renamed there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::forged_journal::{BEGUN, forge, sealed};
use super::interrupted::wait_for;
use super::preflight::Mounted;
use super::run::{Ended, Tool, large_root, small_root};
use super::support::root::{AufsRoot, container_id};
use super::support::trace::{assert_same, contents};
use crate::support::scratch::scratch;

/// Where the containers really are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// On the root's file system, by another mount.
    Bind,
    /// In memory.
    FileSystem,
}

const KINDS: [Kind; 2] = [Kind::Bind, Kind::FileSystem];

/// A root whose containers are mounted.
struct Split {
    tool: Tool,
    root: AufsRoot,
    kind: Kind,
    elsewhere: TempDir,
    mounted: Option<Mounted>,
}

fn copy(from: &Path, to: &Path) {
    let from = from.join(".");
    let mut cp = Command::new("cp");
    assert!(cp.arg("-a").arg(from).arg(to).status().unwrap().success());
}

impl Split {
    fn new(kind: Kind, root: AufsRoot) -> Self {
        let mut split = Self {
            tool: Tool::new(),
            root,
            kind,
            elsewhere: scratch(),
            mounted: None,
        };
        let (point, other) = (split.containers(), split.elsewhere());
        fs::create_dir(&other).unwrap();
        copy(&point, &other);
        fs::remove_dir_all(&point).unwrap();
        fs::create_dir(&point).unwrap();
        split.mount();
        if kind == Kind::FileSystem {
            copy(&other, &point);
        }
        split
    }

    fn small(kind: Kind) -> Self {
        Self::new(kind, small_root())
    }

    fn mount(&mut self) {
        let point = self.containers();
        self.mounted = Some(match self.kind {
            Kind::Bind => Mounted::bind(&self.elsewhere(), &point),
            Kind::FileSystem => Mounted::tmpfs(&point),
        });
    }

    fn unmount(&mut self) {
        self.mounted = None;
    }

    fn elsewhere(&self) -> PathBuf {
        self.elsewhere.path().join("containers")
    }

    fn path(&self) -> PathBuf {
        self.root.path()
    }

    fn containers(&self) -> PathBuf {
        self.path().join("containers")
    }

    fn place(&self) -> PathBuf {
        self.containers().join(".aufs2dm")
    }

    fn config(&self) -> PathBuf {
        let web = self.containers().join(container_id("web"));
        web.join("config.v2.json")
    }

    fn run(&self, verb: &str, options: &[&str]) -> Ended {
        self.tool.run(verb, &self.path(), options)
    }

    fn is_converted(&self) {
        let config = fs::read_to_string(self.config()).unwrap();
        assert!(config.contains(r#""Driver":"devicemapper""#), "{config}");
        assert!(self.path().join("devicemapper/metadata/base").exists());
    }

    /// No command does anything, and each says this.
    fn refused(&self, words: &[&str]) {
        let before = contents(&self.path());
        for (verb, options) in [
            ("status", &[][..]),
            ("verify", &[]),
            ("resume", &[]),
            ("rollback", &[]),
            ("commit", &["--yes"]),
        ] {
            self.run(verb, options).expect(1, words);
            assert_same(&before, &contents(&self.path()));
        }
    }
}

fn times(path: &Path) -> (i64, i64) {
    let meta = path.metadata().unwrap();
    (meta.mtime(), meta.mtime_nsec())
}

#[test]
fn they_are_converted_verified_and_taken_back_to_the_byte() {
    for kind in KINDS {
        let split = Split::small(kind);
        let (before, modified) = (contents(&split.path()), times(&split.containers()));
        let planned = split.run("convert", &["--dry-run"]);
        planned.expect(0, &[]);
        assert!(!planned.err.contains("mount point"), "{}", planned.err);
        assert_same(&before, &contents(&split.path()));
        split.run("convert", &[]).expect(0, &[]);
        split.is_converted();
        split.run("status", &[]).expect(0, &[]);
        let verified = split.run("verify", &["--full"]);
        verified.expect(0, &[]);
        assert!(!verified.err.contains(".aufs2dm"), "{}", verified.err);
        split.run("rollback", &[]).expect(0, &[]);
        assert_same(&before, &contents(&split.path()));
        assert_eq!(modified, times(&split.containers()), "{kind:?}");
    }
}

#[test]
fn mounted_on_themselves_they_are_converted_and_need_the_mount_no_more() {
    for unmounted in [true, false] {
        let (tool, root) = (Tool::new(), small_root());
        let before = contents(&root.path());
        let point = root.path().join("containers");
        let mut mounted = Some(Mounted::bind(&point, &point));
        tool.run("convert", &root.path(), &[]).expect(0, &[]);
        if unmounted {
            mounted = None;
        }
        tool.run("status", &root.path(), &[]).expect(0, &[]);
        tool.run("rollback", &root.path(), &[]).expect(0, &[]);
        drop(mounted);
        assert_same(&before, &contents(&root.path()));
    }
}

#[test]
fn those_of_another_root_are_refused_and_left_as_they_are() {
    let (tool, root, other) = (Tool::new(), small_root(), small_root());
    let (own, others) = (
        root.path().join("containers"),
        other.path().join("containers"),
    );
    let _mounted = Mounted::bind(&others, &own);
    let before = contents(&other.path());
    for options in [&["--dry-run"][..], &[]] {
        let refused = tool.run("convert", &root.path(), options);
        let words = ["is in another Docker root", "umount"];
        refused.expect(1, &words);
    }
    assert_same(&before, &contents(&other.path()));
}

#[test]
fn commit_leaves_nothing_beside_them() {
    for kind in KINDS {
        let split = Split::small(kind);
        split.run("convert", &[]).expect(0, &[]);
        assert!(split.place().join("originals").exists());
        split.run("verify", &["--full"]).expect(0, &[]);
        split.run("commit", &["--yes"]).expect(0, &[]);
        split.is_converted();
        assert!(!split.place().exists());
        assert!(!split.path().join(".aufs2dm").exists());
        assert!(!split.path().join("aufs").exists());
    }
}

#[test]
fn a_failed_run_leaves_nothing_beside_them() {
    let split = Split::new(Kind::FileSystem, large_root_with_a_container());
    let before = contents(&split.path());
    let child = split.tool.start(&split.path(), &["--jobs", "1"]);
    wait_for(&split.path().join(".aufs2dm/devicemapper/devicemapper/data"));
    let blob = split.root.branch("base").join("blob047");
    fs::remove_file(&blob).unwrap();
    let ended = Ended::new(&child.wait_with_output().unwrap());
    ended.expect(1, &["/blob047", "changed after"]);
    fs::write(&blob, vec![0x5a; 2 << 20]).unwrap();
    assert_same(&before, &contents(&split.path()));
}

fn large_root_with_a_container() -> AufsRoot {
    large_root().container("web", ("lab/base:1", "base"), |l| l.file("log", "line"))
}

#[test]
fn without_their_file_system_no_command_does_anything() {
    let mut split = Split::small(Kind::Bind);
    let before = contents(&split.path());
    split.run("convert", &[]).expect(0, &[]);
    split.unmount();
    let words = [
        "containers: its file system is not mounted",
        "mount its file system",
    ];
    split.refused(&words);
    // Nor with another in its place.
    let other = scratch();
    let mounted = Mounted::bind(other.path(), &split.containers());
    split.refused(&words);
    let place = other.path().join(".aufs2dm");
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o700)).unwrap();
    let mark = place.join("conversion");
    fs::write(&mark, "00000000-0000-4000-8000-000000000000").unwrap();
    fs::set_permissions(&mark, fs::Permissions::from_mode(0o600)).unwrap();
    split.refused(&["belongs to another conversion", "mount its own file system"]);
    drop(mounted);
    split.mount();
    split.run("rollback", &[]).expect(0, &[]);
    assert_same(&before, &contents(&split.path()));
}

#[test]
fn what_is_mounted_over_containers_later_is_told() {
    let (tool, root, other) = (Tool::new(), small_root(), scratch());
    let original = contents(&root.path());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    {
        let point = root.path().join("containers");
        let _mounted = Mounted::bind(other.path(), &point);
        let way_on = format!("`umount {}`", point.display());
        for verb in ["status", "verify", "rollback", "resume"] {
            let words = ["is a mount point, but was not one", &way_on];
            tool.run(verb, &root.path(), &[]).expect(1, &words);
        }
    }
    tool.run("rollback", &root.path(), &[]).expect(0, &[]);
    assert_same(&original, &contents(&root.path()));
}

#[test]
fn one_container_on_a_mount_of_its_own_is_refused() {
    let (tool, root, other) = (Tool::new(), small_root(), scratch());
    let web = root.path().join("containers").join(container_id("web"));
    copy(&web, other.path());
    let _mounted = Mounted::bind(other.path(), &web);
    for options in [&["--dry-run"][..], &[]] {
        let told = tool.run("convert", &root.path(), options);
        told.expect(1, &[&container_id("web"), "is a mount point", "cp -a"]);
        assert!(!root.path().join(".aufs2dm").exists());
    }
}

#[test]
fn a_full_or_a_read_only_file_system_is_told_by_dry_run_and_run_alike() {
    let split = Split::small(Kind::FileSystem);
    let mut remount = Command::new("mount");
    remount.args(["-o", "remount,size=128k"]);
    assert!(remount.arg(split.containers()).status().unwrap().success());
    let filler = split.containers().join("filler");
    let _full = fs::write(&filler, vec![1; 1 << 20]);
    let before = contents(&split.path());
    for options in [&["--dry-run"][..], &[]] {
        let words = ["containers: the containers' configs are rewritten there"];
        split.run("convert", options).expect(1, &words);
        assert_same(&before, &contents(&split.path()));
    }
    fs::remove_file(filler).unwrap();
    let mut remount = Command::new("mount");
    remount.args(["-o", "remount,ro"]);
    assert!(remount.arg(split.containers()).status().unwrap().success());
    for options in [&["--dry-run"][..], &[]] {
        let words = ["containers: is on a read-only file system", "remount,rw"];
        split.run("convert", options).expect(1, &words);
        assert!(!split.path().join(".aufs2dm").exists());
    }
}

/// Half of the renames were done when it ended.
fn broken_off(split: &Split) {
    split.run("convert", &[]).expect(0, &[]);
    let journal = split.path().join(".aufs2dm/journal");
    let text = fs::read_to_string(&journal).unwrap();
    let until = |line: &&str| !line.contains(r#""record":"switched""#);
    let kept: Vec<_> = text.lines().take_while(until).collect();
    fs::write(&journal, kept.join("\n") + "\n").unwrap();
    let inner = split.config();
    let inner = inner.strip_prefix(split.path()).unwrap();
    let staged = split.place().join(inner);
    fs::rename(split.config(), staged).unwrap();
    let original = split.place().join("originals").join(inner);
    fs::hard_link(original, split.config()).unwrap();
}

#[test]
fn a_move_that_was_broken_off_is_ended_or_taken_back() {
    for kind in KINDS {
        let split = Split::small(kind);
        broken_off(&split);
        split.run("resume", &[]).expect(0, &[]);
        split.is_converted();
        let split = Split::small(kind);
        let before = contents(&split.path());
        broken_off(&split);
        split.run("rollback", &[]).expect(0, &[]);
        assert_same(&before, &contents(&split.path()));
    }
}

#[test]
fn a_run_that_is_killed_at_any_moment_goes_on_or_back() {
    let moments = [
        ".aufs2dm/journal",
        "containers/.aufs2dm",
        "containers/.aufs2dm/conversion",
        ".aufs2dm/devicemapper/devicemapper/data",
        "containers/.aufs2dm/containers",
        "containers/.aufs2dm/originals",
        "devicemapper",
    ];
    for (number, moment) in moments.into_iter().enumerate() {
        for verb in ["resume", "rollback"] {
            let kind = KINDS[number % 2];
            let split = Split::new(kind, large_root_with_a_container());
            let before = contents(&split.path());
            let options = ["--jobs", "1", "--checkpoint", "0", "--no-verify"];
            let mut child = split.tool.start(&split.path(), &options);
            wait_for(&split.path().join(moment));
            child.kill().unwrap();
            child.wait().unwrap();
            let ended = split.run(verb, &[]);
            if ended.code != Some(0) {
                // The first line of the journal was not whole.
                ended.expect(1, &["no interrupted conversion"]);
                assert_eq!(moment, ".aufs2dm/journal", "{verb}: {ended:?}");
            } else if verb == "resume" {
                split.is_converted();
            }
            split.run("rollback", &[]).expect(0, &[]);
            assert_same(&before, &contents(&split.path()));
        }
    }
}

#[test]
fn what_a_run_left_before_it_could_note_it_is_replaced_or_removed() {
    for verb in ["convert", "rollback"] {
        let split = Split::small(Kind::Bind);
        let before = contents(&split.path());
        forge(&split.path(), &[BEGUN]);
        fs::create_dir(split.place()).unwrap();
        fs::set_permissions(split.place(), fs::Permissions::from_mode(0o700)).unwrap();
        split.run(verb, &[]).expect(0, &[]);
        split.run("rollback", &[]).expect(0, &[]);
        assert_same(&before, &contents(&split.path()));
    }
}

#[test]
fn what_a_run_left_before_it_could_note_it_is_no_lost_journal() {
    for mounted in [true, false] {
        let mut split = Split::small(Kind::Bind);
        if !mounted {
            split.unmount();
            copy(&split.elsewhere(), &split.containers());
        }
        let before = contents(&split.path());
        fs::create_dir(split.place()).unwrap();
        fs::set_permissions(split.place(), fs::Permissions::from_mode(0o700)).unwrap();
        let mark = split.place().join("conversion");
        fs::write(&mark, "half a numb").unwrap();
        fs::set_permissions(&mark, fs::Permissions::from_mode(0o600)).unwrap();
        split.run("convert", &[]).expect(0, &[]);
        split.run("status", &[]).expect(0, &[]);
        split.run("rollback", &[]).expect(0, &[]);
        assert_same(&before, &contents(&split.path()));
    }
}

#[test]
fn a_rollback_that_ended_while_it_removed_them_is_finished() {
    let split = Split::small(Kind::Bind);
    let before = contents(&split.path());
    split.run("convert", &[]).expect(0, &[]);
    let kept = split.path().with_file_name("kept");
    let mut cp = Command::new("cp");
    let stage = split.path().join(".aufs2dm");
    assert!(
        cp.arg("-a")
            .args([&stage, &kept])
            .status()
            .unwrap()
            .success()
    );
    split.run("rollback", &[]).expect(0, &[]);
    // All is back and what was beside them is gone; the journal is not.
    fs::create_dir(&stage).unwrap();
    fs::set_permissions(&stage, fs::Permissions::from_mode(0o700)).unwrap();
    let mut text = fs::read_to_string(kept.join("journal")).unwrap();
    text += &sealed(r#"{"record":"rolling-back"}"#);
    text += &sealed(r#"{"record":"nothing-beside"}"#);
    let journal = stage.join("journal");
    fs::write(&journal, text).unwrap();
    fs::set_permissions(&journal, fs::Permissions::from_mode(0o600)).unwrap();
    split.run("rollback", &[]).expect(0, &[]);
    assert_same(&before, &contents(&split.path()));
}

#[test]
fn originals_beside_them_without_a_journal_are_damage() {
    let split = Split::small(Kind::Bind);
    split.run("convert", &[]).expect(0, &[]);
    fs::remove_dir_all(split.path().join(".aufs2dm")).unwrap();
    let before = contents(&split.path());
    for verb in ["convert", "rollback", "status"] {
        let words = ["is missing or damaged", "containers/.aufs2dm"];
        split.run(verb, &[]).expect(1, &words);
        assert_same(&before, &contents(&split.path()));
    }
}

#[test]
fn what_is_beside_them_is_looked_at_like_the_staging_directory() {
    type Forge = fn(&Path);
    let forgeries: [(&str, Forge); 5] = [
        ("is a symbolic link", |place| {
            fs::rename(place, place.with_file_name("aside")).unwrap();
            symlink("aside", place).unwrap();
        }),
        ("belongs to user 12", |place| {
            chown(place, Some(12), None).unwrap();
        }),
        ("is accessible to others", |place| {
            fs::set_permissions(place, fs::Permissions::from_mode(0o755)).unwrap();
        }),
        ("is a symbolic link", |place| {
            let originals = place.join("originals");
            fs::rename(&originals, place.join("aside")).unwrap();
            symlink("aside", originals).unwrap();
        }),
        ("has 2 names", |place| {
            fs::hard_link(place.join("conversion"), place.join("second")).unwrap();
        }),
    ];
    for (words, forge) in forgeries {
        let split = Split::small(Kind::Bind);
        split.run("convert", &[]).expect(0, &[]);
        forge(&split.place());
        split.refused(&["containers/.aufs2dm", words, "nothing was done"]);
    }
    let split = Split::small(Kind::Bind);
    split.run("convert", &[]).expect(0, &[]);
    let _mounted = Mounted::bind(&split.elsewhere(), &split.place().join("originals"));
    for verb in ["rollback", "status"] {
        split
            .run(verb, &[])
            .expect(1, &["umount", "containers/.aufs2dm/originals"]);
    }
}

#[test]
fn a_journal_that_stages_configs_elsewhere_is_not_believed() {
    for forged in [
        r#"{"record":"beside","id":"x","times":{"path":"containers","accessed":[1,0],"modified":[1,0]}}"#,
        r#"{"record":"beside","id":"00000000-0000-4000-8000-000000000000","times":{"path":"volumes","accessed":[1,0],"modified":[1,0]}}"#,
    ] {
        let (tool, root) = (Tool::new(), small_root());
        forge(&root.path(), &[BEGUN, forged]);
        let before = contents(&root.path());
        for verb in ["convert", "resume", "rollback"] {
            let words = ["line 2", "where no conversion does"];
            tool.run(verb, &root.path(), &[]).expect(1, &words);
            assert_same(&before, &contents(&root.path()));
        }
    }
}
