//! What was true when `commit` or `rollback` looked may not be any more: while the question stands, or after a run that was killed.

use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::statvfs;

use super::commit_conditions::{Ready, spoil_a_file};
use super::forged_journal::sealed;
use super::lost_on_devices::record_of_the_top_layer;
use super::removal::Flags;
use super::support::trace::{assert_same, contents};
use super::support::unmounted::wait_until_nobody_sees;
use crate::support::scratch::scratch;

impl Ready {
    /// Adds what a killed run had noted.
    pub(crate) fn note(&self, record: &str) {
        self.note_with(record, "");
    }

    fn note_with(&self, record: &str, members: &str) {
        let mut journal = File::options()
            .append(true)
            .open(self.path(".aufs2dm/journal"))
            .unwrap();
        let line = sealed(&format!("{{\"record\":\"{record}\"{members}}}"));
        journal.write_all(line.as_bytes()).unwrap();
    }

    /// The pool's data, as a disk leaves it that lost them.
    fn lose_data(&self) {
        let data = self.path("devicemapper/devicemapper/data");
        let meta = data.metadata().unwrap();
        let file = File::options().write(true).open(&data).unwrap();
        file.set_len(0).unwrap();
        file.set_len(meta.len()).unwrap();
        file.set_modified(meta.modified().unwrap()).unwrap();
    }

    /// Answers yes to `commit`'s question, after what happens while it stands; returns the exit code and what was said.
    fn commit_while(&self, meanwhile: impl FnOnce()) -> (Option<i32>, String) {
        let mut child = self.tool.commit_on_terminal(&self.root.path());
        let mut out = child.stdout.take().unwrap();
        let (mut said, mut piece) = (String::new(), [0; 512]);
        while !said.contains("Type yes") {
            let read = out.read(&mut piece).unwrap();
            assert!(read > 0, "it did not ask: {said}");
            said.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        meanwhile();
        child.stdin.take().unwrap().write_all(b"yes\n").unwrap();
        out.read_to_string(&mut said).unwrap();
        (child.wait().unwrap().code(), said)
    }
}

/// What happens while the question stands.
type Change = fn(&Ready);

#[test]
fn what_changes_while_the_question_stands_keeps_the_aufs_side() {
    let changes: [(&str, Change); 5] = [
        ("devicemapper", |ready| {
            fs::remove_dir_all(ready.path("devicemapper")).unwrap();
        }),
        ("written to", Ready::lose_data),
        ("aufs/precious", |ready| {
            fs::write(ready.path("aufs/precious"), "x").unwrap();
        }),
        ("aufs/diff/new", |ready| {
            fs::create_dir(ready.path("aufs/diff/new")).unwrap();
            fs::write(ready.path("aufs/diff/new/file"), "x").unwrap();
        }),
        ("not what was converted", |ready| {
            let other = ready.path("other");
            fs::create_dir_all(other.join("diff/layer")).unwrap();
            fs::write(other.join("diff/layer/file"), "x").unwrap();
            fs::rename(ready.path("aufs"), ready.path("aufs.old")).unwrap();
            symlink(&other, ready.path("aufs")).unwrap();
        }),
    ];
    for (words, change) in changes {
        let ready = Ready::new();
        let (code, said) = ready.commit_while(|| change(&ready));
        assert_eq!(code, Some(1), "{words}: {said}");
        assert!(said.contains(words), "{words} is not in {said}");
        assert!(ready.path("aufs/diff").exists(), "{words}: {said}");
        let other = ready.path("other/diff/layer/file");
        assert_eq!(other.exists(), words == "not what was converted", "{said}");
    }
    let ready = Ready::new();
    let (code, said) = ready.commit_while(|| {});
    assert_eq!(code, Some(0), "{said}");
    assert!(!ready.path("aufs").exists());
}

#[test]
fn a_removal_that_was_killed_before_it_took_anything_is_decided_anew() {
    for verb in ["commit", "resume"] {
        let ready = Ready::new();
        ready.note("committing");
        ready.lose_data();
        let options: &[&str] = if verb == "commit" { &["--yes"] } else { &[] };
        let ended = ready.run(verb, options);
        assert_eq!(ended.code == Some(0), verb == "resume", "{ended:?}");
        assert!(ready.path("aufs/diff").exists(), "{ended:?}");
        ready.run("rollback", &[]).expect(0, &[]);
        assert!(ready.path("aufs/diff").exists() && !ready.path("devicemapper").exists());
    }
    let ready = Ready::new();
    ready.note("committing");
    ready.run("commit", &["--yes"]).expect(0, &[]);
    assert!(!ready.path("aufs").exists());
}

/// A root whose removal was killed after both renames.
fn moved_out() -> Ready {
    let ready = Ready::new();
    ready.note("committing");
    let removed = ready.path(".aufs2dm/removed");
    DirBuilder::new().mode(0o700).create(&removed).unwrap();
    fs::rename(ready.path("aufs"), removed.join("aufs")).unwrap();
    fs::rename(ready.path("image/aufs"), removed.join("image")).unwrap();
    ready
}

/// What a removal that was killed before anything was gone has moved out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Out {
    Branches,
    All,
}

/// A root whose removal was killed between its renames and the first that is gone.
pub(crate) fn set_out(out: Out) -> Ready {
    let ready = Ready::new();
    ready.note_with("committing", ",\"stays\":false,\"in_two_steps\":true");
    let removed = ready.path(".aufs2dm/removed");
    DirBuilder::new().mode(0o700).create(&removed).unwrap();
    fs::rename(ready.path("aufs"), removed.join("aufs")).unwrap();
    if out == Out::All {
        fs::rename(ready.path("image/aufs"), removed.join("image")).unwrap();
    }
    ready
}

#[test]
fn an_aufs_side_that_is_out_and_whole_stays_where_the_devicemapper_side_was_lost() {
    let harms: [Change; 4] = [
        Ready::lose_data,
        |ready| fs::remove_file(ready.path("devicemapper/devicemapper/data")).unwrap(),
        |ready| fs::remove_file(ready.path("devicemapper/metadata/base")).unwrap(),
        |ready| fs::remove_dir_all(ready.path("image/devicemapper")).unwrap(),
    ];
    for harm in harms {
        for out in [Out::Branches, Out::All] {
            let ready = set_out(out);
            harm(&ready);
            let status = ready.run("status", &[]);
            assert!(
                status.out.contains("moves the aufs side back to its place"),
                "{status:?}"
            );
            ready
                .run("verify", &["--full"])
                .expect(1, &["nothing was verified", "`aufs2dm rollback"]);
            assert!(ready.path(".aufs2dm/removed/aufs/diff").exists());
            // It is back in its place, so all is decided anew.
            for (verb, options) in [("resume", &[][..]), ("commit", &["--yes"])] {
                let ended = ready.run(verb, options);
                assert!(ended.code == Some(1) || verb == "resume", "{ended:?}");
                assert!(ready.path("aufs/diff").exists(), "{ended:?}");
                if verb == "commit" {
                    ended.expect(1, &["the aufs side is kept"]);
                }
            }
            // A store of images without its names looks as if Docker had removed them.
            ready.run("rollback", &["--force"]).expect(0, &[]);
            assert!(ready.path("aufs/diff").exists() && ready.path("image/aufs/layerdb").exists());
            assert!(!ready.path("devicemapper").exists() && !ready.path(".aufs2dm").exists());
        }
    }
}

#[test]
fn a_removal_that_was_killed_before_anything_was_gone_goes_on_or_back() {
    for out in [Out::Branches, Out::All] {
        for verb in ["commit", "resume"] {
            let ready = set_out(out);
            let options: &[&str] = if verb == "commit" { &["--yes"] } else { &[] };
            ready.run(verb, options).expect(0, &[]);
            assert!(!ready.path("aufs").exists() && !ready.path(".aufs2dm").exists());
        }
        let ready = set_out(out);
        ready.run("rollback", &[]).expect(0, &["back in its place"]);
        assert!(ready.path("aufs/diff").exists() && !ready.path("devicemapper").exists());
        ready.run("convert", &[]).expect(0, &[]);
        // What Docker did since the kill is looked for, too, and the root can still be committed.
        let ready = set_out(out);
        let new = ready.path("devicemapper/metadata/new");
        fs::write(&new, "{}").unwrap();
        ready
            .run("rollback", &[])
            .expect(1, &["1 new layers (new)"]);
        fs::remove_file(&new).unwrap();
        ready.run("verify", &["--full"]).expect(0, &[]);
        ready.run("commit", &["--yes"]).expect(0, &[]);
    }
}

#[test]
fn what_was_written_to_the_pool_after_a_removal_was_interrupted_keeps_aufs() {
    for verb in ["commit", "resume"] {
        let ready = set_out(Out::All);
        let data = ready.path("devicemapper/devicemapper/data");
        let modified = data.metadata().unwrap().modified().unwrap();
        let file = File::options().write(true).open(&data).unwrap();
        let at = data.metadata().unwrap().len() - 1;
        file.write_all_at(b"x", at).unwrap();
        file.set_modified(modified).unwrap();
        let options: &[&str] = if verb == "commit" { &["--yes"] } else { &[] };
        let words = ["written to after the last full verification"];
        ready.run(verb, options).expect(1, &words);
        ready.run("commit", &["--yes"]).expect(1, &words);
        assert!(ready.path("aufs/diff").exists() && ready.path("image/aufs").exists());
    }
}

#[test]
fn an_aufs_that_is_emptied_in_its_place_is_not_done_while_its_mount_is_gone() {
    let ready = Ready::new();
    let beside = ".aufs2dm-6fcff1a3-9a5c-4f43-9d8c-0c3f5f5ac7b5";
    let members = format!(",\"beside\":\"{beside}\",\"in_two_steps\":true");
    ready.note_with("committing", &members);
    ready.note("removing");
    let removed = ready.path(".aufs2dm/removed");
    DirBuilder::new().mode(0o700).create(&removed).unwrap();
    fs::rename(ready.path("image/aufs"), removed.join("image")).unwrap();
    fs::rename(ready.path("aufs"), ready.path("disk")).unwrap();
    fs::create_dir(ready.path("aufs")).unwrap();
    for (verb, options) in [("commit", &["--yes"][..]), ("resume", &[])] {
        ready
            .run(verb, options)
            .expect(1, &["mount it again", "rmdir"]);
    }
    assert!(ready.path(".aufs2dm/journal").exists());
    fs::remove_dir(ready.path("aufs")).unwrap();
    ready.run("commit", &["--yes"]).expect(0, &[]);
    assert!(ready.path("disk/diff").exists());
}

#[test]
fn from_the_first_that_is_gone_a_removal_only_goes_on() {
    let ready = set_out(Out::All);
    ready.note("removing");
    fs::remove_dir_all(ready.path(".aufs2dm/removed/image")).unwrap();
    ready.run("rollback", &[]).expect(1, &["`aufs2dm commit"]);
    assert!(!ready.path("aufs").exists());
    ready.run("commit", &["--yes"]).expect(0, &[]);
    assert!(!ready.path(".aufs2dm").exists());
}

#[test]
fn from_the_first_that_is_gone_the_rest_stays_while_what_replaces_it_is_wrong() {
    for verb in ["commit", "resume"] {
        let ready = set_out(Out::All);
        ready.note("removing");
        let metadata = ready.path("devicemapper/devicemapper/metadata");
        let good = ready.path("good");
        let options: &[&str] = if verb == "commit" { &["--yes"] } else { &[] };
        let refused = |words: &str| {
            let all = [
                "what is left of the aufs side is kept",
                "verify --full",
                words,
            ];
            ready.run(verb, options).expect(1, &all);
            assert!(ready.path(".aufs2dm/removed/aufs/diff").exists());
        };
        fs::rename(&metadata, &good).unwrap();
        fs::write(&metadata, [0; 4096]).unwrap();
        refused("a quick verification just now found this");
        // Once a verification has failed, another must pass.
        ready.run("verify", &["--full"]).expect(3, &[]);
        fs::rename(&good, &metadata).unwrap();
        refused("the latest verification that counts");
        ready.run("verify", &["--full"]).expect(0, &[]);
        ready.run(verb, options).expect(0, &[]);
        assert!(!ready.path(".aufs2dm").exists());
    }
}

#[test]
fn while_the_branches_go_the_image_store_of_aufs_still_tells_what_the_devices_lost() {
    let harms: [(Change, &str); 2] = [
        (
            |ready| fs::remove_dir_all(record_of_the_top_layer(ready)).unwrap(),
            "brings it back",
        ),
        (
            |ready| {
                let names = ready.path("image/devicemapper/repositories.json");
                fs::write(names, "{}").unwrap();
            },
            "is not what Docker writes there",
        ),
    ];
    for (harm, words) in harms {
        for verb in ["commit", "resume"] {
            let ready = set_out(Out::All);
            ready.note("removing");
            harm(&ready);
            let options: &[&str] = if verb == "commit" { &["--yes"] } else { &[] };
            let all = ["what is left of the aufs side is kept", words];
            ready.run(verb, options).expect(1, &all);
            let removed = ready.path(".aufs2dm/removed");
            assert!(removed.join("aufs/diff").exists() && removed.join("image").exists());
        }
    }
}

#[test]
fn what_is_written_to_the_pool_after_the_first_that_is_gone_keeps_the_rest() {
    for verb in ["commit", "resume"] {
        let ready = set_out(Out::All);
        ready.note("removing");
        let data = ready.path("devicemapper/devicemapper/data");
        let at = data.metadata().unwrap().len() - 1;
        let file = File::options().write(true).open(&data).unwrap();
        file.write_all_at(b"x", at).unwrap();
        let options: &[&str] = if verb == "commit" { &["--yes"] } else { &[] };
        let words = [
            "written to after the last full verification",
            "what is left of the aufs side is kept",
        ];
        ready.run(verb, options).expect(1, &words);
        assert!(ready.path(".aufs2dm/removed/aufs/diff").exists());
        ready.run("verify", &["--full"]).expect(0, &[]);
        ready.run(verb, options).expect(0, &[]);
        assert!(!ready.path(".aufs2dm").exists());
    }
}

#[test]
fn without_what_replaces_it_it_is_told_where_the_rest_of_aufs_is() {
    let ready = set_out(Out::All);
    ready.note("removing");
    fs::rename(ready.path("devicemapper"), ready.path("elsewhere")).unwrap();
    let words = [".aufs2dm/removed", "Next: ", "docs/operations.md"];
    for (verb, options) in [
        ("commit", &["--yes"][..]),
        ("rollback", &[]),
        ("resume", &[]),
    ] {
        ready.run(verb, options).expect(1, &words);
    }
    let status = ready.run("status", &[]);
    assert!(
        words.iter().all(|words| status.out.contains(words)),
        "{status:?}"
    );
    assert!(!status.out.contains("finishes it"), "{status:?}");
    fs::rename(ready.path("elsewhere"), ready.path("devicemapper")).unwrap();
    ready.run("commit", &["--yes"]).expect(0, &[]);
}

#[test]
fn an_aufs_side_is_not_moved_back_over_another() {
    let ready = set_out(Out::All);
    fs::create_dir_all(ready.path("aufs/diff")).unwrap();
    ready.run("rollback", &[]).expect(1, &["move it elsewhere"]);
    assert!(ready.path(".aufs2dm/removed/aufs/diff").exists());
    assert!(!ready.path("image/aufs").exists());
}

#[test]
fn an_aufs_side_that_is_there_again_while_the_old_one_is_removed_stays() {
    for verb in ["commit", "resume"] {
        let ready = moved_out();
        let new = ready.path("aufs/diff/new");
        fs::create_dir_all(&new).unwrap();
        fs::write(new.join("file"), "x").unwrap();
        let options: &[&str] = if verb == "commit" { &["--yes"] } else { &[] };
        let words = ["aufs/diff/new", "no conversion has seen", "commit --root"];
        ready.run(verb, options).expect(1, &words);
        assert!(new.join("file").exists());
        fs::rename(ready.path("aufs"), ready.path("kept")).unwrap();
        ready.run(verb, options).expect(0, &[]);
        assert!(ready.path("kept/diff/new/file").exists());
        assert!(!ready.path(".aufs2dm").exists());
    }
    // With nothing in it, it is told, too, and not for ever.
    let ready = moved_out();
    fs::create_dir_all(ready.path("aufs/diff")).unwrap();
    ready
        .run("commit", &["--yes"])
        .expect(1, &["move it elsewhere"]);
    fs::remove_dir_all(ready.path("aufs")).unwrap();
    ready.run("commit", &["--yes"]).expect(0, &[]);
}

#[test]
fn an_interrupted_rollback_looks_again_at_what_it_goes_back_to_and_at_what_it_removes() {
    for verb in ["rollback", "resume"] {
        let ready = Ready::new();
        ready.note("rolling-back");
        let branch = ready.root.branch("web rw");
        fs::rename(&branch, ready.path("elsewhere")).unwrap();
        ready
            .run(verb, &[])
            .expect(1, &["1 missing", "rollback --onto-damaged"]);
        assert!(ready.path("devicemapper/metadata/base").exists());
        fs::rename(ready.path("elsewhere"), &branch).unwrap();
        // Whether it is what it was, nothing can tell now.
        ready
            .run(verb, &[])
            .expect(1, &["written to", "half moved"]);
        ready.run("rollback", &["--onto-damaged"]).expect(0, &[]);
        assert!(!ready.path("devicemapper").exists());

        let ready = Ready::new();
        ready.note("rolling-back");
        fs::write(ready.path("devicemapper/metadata/new"), "{}").unwrap();
        ready.run(verb, &[]).expect(1, &["rollback --force"]);
        assert!(ready.path("devicemapper/metadata/base").exists());
        fs::remove_file(ready.path("devicemapper/metadata/new")).unwrap();
        ready.run(verb, &[]).expect(0, &[]);
        assert!(!ready.path("devicemapper").exists());
    }
}

#[test]
fn an_interrupted_rollback_tells_what_was_lost_meanwhile() {
    let ready = Ready::new();
    ready.note("rolling-back");
    fs::rename(
        ready.path("devicemapper"),
        ready.path(".aufs2dm/devicemapper"),
    )
    .unwrap();
    fs::rename(ready.path("aufs"), ready.path("elsewhere")).unwrap();
    let words = ["nothing to go back to", "docs/operations.md"];
    let status = ready.run("status", &[]);
    assert!(
        words.iter().all(|words| status.out.contains(words)),
        "{status:?}"
    );
    for verb in ["rollback", "resume", "commit", "verify"] {
        let options: &[&str] = if verb == "commit" { &["--yes"] } else { &[] };
        ready.run(verb, options).expect(1, &words);
        assert!(ready.path(".aufs2dm/devicemapper/metadata").exists());
    }
    fs::rename(ready.path("elsewhere"), ready.path("aufs")).unwrap();
    let container = fs::read_dir(ready.path("containers")).unwrap().next();
    let config = container.unwrap().unwrap().path().join("config.v2.json");
    let original = ready
        .path(".aufs2dm/originals")
        .join(config.strip_prefix(ready.root.path()).unwrap());
    // As if its step back had been done, and somebody had removed it then.
    fs::rename(
        &config,
        ready
            .path(".aufs2dm")
            .join(config.strip_prefix(ready.root.path()).unwrap()),
    )
    .unwrap();
    fs::remove_file(original).unwrap();
    let words = format!("{}: is missing", config.display());
    let ended = ready.run("rollback", &[]);
    let said = format!("{}{}", ended.out, ended.err);
    assert!(ended.code == Some(0) && said.contains(&words), "{ended:?}");
}

#[test]
fn a_removal_that_was_killed_before_its_first_rename_can_be_taken_back() {
    let ready = Ready::new();
    ready.note("committing");
    let removed = ready.path(".aufs2dm/removed");
    DirBuilder::new().mode(0o700).create(removed).unwrap();
    ready.run("verify", &["--full"]).expect(0, &[]);
    ready.run("rollback", &[]).expect(0, &[]);
    assert!(ready.path("aufs/diff").exists() && !ready.path("devicemapper").exists());
}

/// A file system of its own for a root, whose inodes can be used up.
struct FewInodes(PathBuf);

impl FewInodes {
    /// Moves what is at `path` there.
    fn at(path: &Path) -> Self {
        let aside = scratch();
        let copy = |from: &Path, to: &Path| {
            let from = from.join(".");
            let done = Command::new("cp").arg("-a").args([&from, to]).status();
            assert!(done.unwrap().success());
        };
        copy(path, aside.path());
        let none: Option<&str> = None;
        mount(Some("root"), path, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        copy(aside.path(), path);
        Self(path.to_owned())
    }

    /// Leaves so many for new files.
    fn leave(&self, nr: u64) {
        let stat = statvfs(&self.0).unwrap();
        let data = format!("nr_inodes={}", stat.files() - stat.files_free() + nr);
        let none: Option<&str> = None;
        mount(none, &self.0, none, MsFlags::MS_REMOUNT, Some(&*data)).unwrap();
    }
}

impl Drop for FewInodes {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
        wait_until_nobody_sees(&self.0);
    }
}

#[test]
fn a_removal_for_which_the_disk_is_too_full_is_not_begun() {
    let root = Ready::root();
    let few = FewInodes::at(&root.path());
    let ready = Ready::of(root);
    // There must be room for each directory that it needs later.
    for (left, what) in [
        (0, "removed"),
        (1, "removed/going"),
        (1, "removed/going/aufs"),
    ] {
        let (code, said) = ready.commit_while(|| few.leave(left));
        assert_eq!(code, Some(1), "{said}");
        for words in [
            &format!(".aufs2dm/{what}: cannot create"),
            "nothing was moved or removed",
            "`aufs2dm commit --root",
        ] {
            assert!(said.contains(words), "{words} is not in {said}");
        }
        assert!(ready.path("aufs/diff").exists() && ready.path("image/aufs").exists());
        let journal = fs::read_to_string(ready.path(".aufs2dm/journal")).unwrap();
        assert!(!journal.contains("committing"), "{journal}");
        few.leave(1);
    }
    few.leave(1000);
    ready.run("commit", &["--yes"]).expect(0, &[]);
    assert!(!ready.path("aufs").exists());
}

#[test]
fn a_rollback_that_cannot_note_its_first_step_has_changed_nothing() {
    let ready = Ready::new();
    let flags = Flags(ready.path(".aufs2dm"));
    flags.set("+i", &ready.path(".aufs2dm/journal"));
    let before = contents(&ready.root.path());
    let words = [
        "journal",
        "nothing was moved or removed",
        "`aufs2dm rollback",
    ];
    ready.run("rollback", &[]).expect(1, &words);
    assert_same(&before, &contents(&ready.root.path()));
    drop(flags);
    ready.run("rollback", &[]).expect(0, &[]);
}

/// What somebody has put where the record comes.
type Put = fn(&Path);

#[test]
fn what_is_in_the_place_of_the_record_is_named_before_anything_goes() {
    let all: [(&str, Put); 3] = [
        ("a directory", |path| fs::create_dir(path).unwrap()),
        ("a file", |path| fs::write(path, "precious").unwrap()),
        ("a link", |path| symlink("elsewhere", path).unwrap()),
    ];
    for (what, put) in all {
        for is_killed in [false, true] {
            let ready = if is_killed { moved_out() } else { Ready::new() };
            let record = ready.path(".aufs2dm.json");
            put(&record);
            let before = contents(&ready.root.path());
            let ended = ready.run("commit", &["--yes"]);
            let kept = ready.path(".aufs2dm.json.kept");
            let next = format!(
                "mv --backup=numbered -T {} {}",
                record.display(),
                kept.display()
            );
            ended.expect(1, &[&next, "is not an aufs2dm record", "commit --root"]);
            assert_same(&before, &contents(&ready.root.path()));
            let done = Command::new("sh").args(["-c", &next]).status().unwrap();
            assert!(done.success(), "{next}");
            ready.run("commit", &["--yes"]).expect(0, &[]);
            assert!(kept.symlink_metadata().is_ok(), "{what}");
            assert!(record.is_file() && !ready.path("aufs").exists(), "{what}");
        }
    }
}

#[test]
fn an_interrupted_rollback_tells_which_config_was_damaged_meanwhile() {
    let ready = Ready::new();
    ready.note("rolling-back");
    let container = fs::read_dir(ready.path("containers")).unwrap().next();
    let config = container.unwrap().unwrap().path().join("config.v2.json");
    let inner = config.strip_prefix(ready.root.path()).unwrap().to_owned();
    let original = ready.path(".aufs2dm/originals").join(&inner);
    // Its step back was done, and then the disk lost what it holds.
    let staged = ready.path(".aufs2dm").join(&inner);
    fs::rename(&config, staged).unwrap();
    fs::rename(original, &config).unwrap();
    let length = config.metadata().unwrap().len();
    fs::write(&config, vec![0; usize::try_from(length).unwrap()]).unwrap();
    let words = format!(
        "{}: is no longer the config of an aufs container",
        config.display()
    );
    let ended = ready.run("rollback", &[]);
    let said = format!("{}{}", ended.out, ended.err);
    assert!(ended.code == Some(0) && said.contains(&words), "{ended:?}");
}

#[test]
fn rollback_does_not_go_back_to_an_aufs_side_that_lost_names_of_images() {
    for text in ["{\"Repositories\":{}}", "{}", "null", "rubbish", ""] {
        let ready = Ready::new();
        let names = ready.path("image/aufs/repositories.json");
        let good = fs::read(&names).unwrap();
        fs::write(&names, text).unwrap();
        ready
            .run("rollback", &[])
            .expect(1, &["image", "rollback --onto-damaged"]);
        assert!(ready.path("devicemapper/metadata/base").exists());
        fs::write(&names, good).unwrap();
        ready.run("rollback", &[]).expect(0, &[]);
    }
}

#[test]
fn an_interrupted_rollback_does_not_go_on_without_the_config_that_it_is_to_bring_back() {
    let ready = Ready::new();
    ready.note("rolling-back");
    let container = fs::read_dir(ready.path("containers")).unwrap().next();
    let config = container.unwrap().unwrap().path().join("config.v2.json");
    let inner = config.strip_prefix(ready.root.path()).unwrap();
    let original = ready.path(".aufs2dm/originals").join(inner);
    fs::rename(&original, ready.path("elsewhere")).unwrap();
    for verb in ["rollback", "resume"] {
        let named = original.display().to_string();
        ready
            .run(verb, &[])
            .expect(1, &[&named, "rollback --onto-damaged"]);
        assert!(ready.path("devicemapper/metadata/base").exists());
    }
    fs::rename(ready.path("elsewhere"), &original).unwrap();
    ready.run("rollback", &[]).expect(0, &[]);
    assert!(fs::read_to_string(&config).unwrap().contains("\"aufs\""));
}

#[test]
fn what_is_left_of_a_pseudo_link_whose_other_name_went_first_is_nothing_new() {
    let root = Ready::root();
    let branch = root.branch("web rw");
    let link = branch.join(".wh..wh.plnk/12.34");
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    fs::hard_link(branch.join("data"), &link).unwrap();
    let flags = Flags(root.path());
    flags.set("+i", &branch.join("data"));
    let ready = Ready::of(root);
    ready
        .run("commit", &["--yes"])
        .expect(1, &["12.34", "immutable"]);
    // The pool's files keep their times.
    Flags(ready.path(".aufs2dm")).clear();
    // One name went first.
    let going = ready.path(".aufs2dm/removed/going/aufs/diff");
    let branch = going.join(branch.file_name().unwrap());
    fs::remove_file(branch.join("data")).unwrap();
    ready.run("resume", &[]).expect(0, &[]);
    assert!(!ready.path(".aufs2dm").exists());
}

/// Another sample may find nothing.
#[test]
fn what_a_quick_look_finds_while_aufs_goes_must_be_cleared_up() {
    for verb in ["commit", "resume"] {
        let ready = set_out(Out::All);
        ready.note("removing");
        let metadata = ready.path("devicemapper/devicemapper/metadata");
        let good = ready.path("good");
        fs::rename(&metadata, &good).unwrap();
        fs::write(&metadata, [0; 4096]).unwrap();
        let options: &[&str] = if verb == "commit" { &["--yes"] } else { &[] };
        let words = "a quick verification just now found this";
        ready.run(verb, options).expect(1, &[words]);
        fs::rename(&good, &metadata).unwrap();
        let words = "the latest verification that counts: quickly on";
        ready.run(verb, options).expect(1, &[words]);
        assert!(ready.path(".aufs2dm/removed/aufs/diff").exists());
        ready.run("verify", &["--full"]).expect(0, &[]);
        ready.run(verb, options).expect(0, &[]);
    }
}

#[test]
fn while_aufs_goes_a_full_verification_still_knows_what_containers_had() {
    let ready = set_out(Out::All);
    ready.note("removing");
    ready.run("verify", &["--full"]).expect(0, &[]);
    spoil_a_file(&ready.root.path());
    let verified = ready.run("verify", &["--full"]);
    let words = "some bytes of its files on the device are not those that were converted";
    verified.expect(3, &[]);
    assert!(verified.out.contains(words), "{verified:?}");
    ready.run("commit", &["--yes"]).expect(1, &[]);
    assert!(ready.path(".aufs2dm/removed/aufs/diff").exists());
}
