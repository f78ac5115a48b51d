//! A removal or a way back that was interrupted goes on in what it began with, and only as long as that is what was looked at.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use super::commit_again::{Out, set_out};
use super::commit_conditions::{Ready, spoil_a_file};
use super::commit_unseen::{HIDDEN_WRITES, in_aufs};
use super::lost_on_devices::mark_not_unmounted;
use super::removal::Flags;

/// Both commands that go on with a removal.
const VERBS: [(&str, &[&str]); 2] = [("commit", &["--yes"]), ("resume", &[])];

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.unwrap().success());
}

fn data_in(aufs: &Path) -> PathBuf {
    let branches = fs::read_dir(aufs.join("diff")).unwrap();
    let mut paths = branches.map(|branch| branch.unwrap().path().join("data"));
    paths.find(|path| path.is_file()).unwrap()
}

#[test]
fn an_aufs_that_is_put_back_while_the_last_of_the_old_one_goes_stays() {
    for (verb, options) in VERBS {
        for as_link in [false, true] {
            let ready = set_out(Out::All);
            ready.note("removing");
            let removed = ready.path(".aufs2dm/removed/aufs");
            let backup = ready.path("backup");
            copy(&removed, &backup);
            fs::write(data_in(&backup).with_file_name("newer"), "newer").unwrap();
            fs::remove_dir_all(&removed).unwrap();
            if as_link {
                symlink(&backup, ready.path("aufs")).unwrap();
            } else {
                fs::rename(&backup, ready.path("aufs")).unwrap();
            }
            ready.run(verb, options).expect(1, &["move it elsewhere"]);
            assert!(data_in(&ready.path("aufs")).exists());
            fs::rename(ready.path("aufs"), ready.path("kept")).unwrap();
            ready.run(verb, options).expect(0, &[]);
            assert!(
                data_in(&ready.path("kept"))
                    .with_file_name("newer")
                    .exists()
            );
        }
    }
}

/// A root whose `aufs` is a link, and whose removal has left one file that nobody may remove.
struct BeingRemoved {
    ready: Ready,
    flags: Flags,
    disk: PathBuf,
}

impl BeingRemoved {
    fn new() -> Self {
        let root = Ready::root();
        let disk = root.path().join("disk");
        fs::rename(root.path().join("aufs"), &disk).unwrap();
        symlink(&disk, root.path().join("aufs")).unwrap();
        let flags = Flags(disk.clone());
        flags.set("+i", &data_in(&disk));
        let ready = Ready::of(root);
        ready
            .run("commit", &["--yes", "--drop-linked-aufs"])
            .expect(1, &["immutable"]);
        assert!(!disk.join("diff").exists());
        Self { ready, flags, disk }
    }

    /// The directory in which what is the driver's waits.
    fn waiting(&self) -> PathBuf {
        let entries = fs::read_dir(&self.disk).unwrap();
        let mut paths = entries.map(|entry| entry.unwrap().path());
        let is_own = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with(".aufs2dm-")
        };
        paths.find(is_own).unwrap()
    }
}

#[test]
fn what_waits_behind_a_link_is_found_where_it_was_left_alone() {
    let removed = BeingRemoved::new();
    let (ready, disk, waiting) = (&removed.ready, &removed.disk, removed.waiting());
    let left = data_in(&waiting.join("going/aufs"));
    // Another disk, with a whole aufs side: it is none of this removal's.
    let backup = ready.path("backup");
    copy(&ready.path("image"), &backup);
    fs::create_dir(backup.join("diff")).unwrap();
    fs::remove_file(ready.path("aufs")).unwrap();
    symlink(&backup, ready.path("aufs")).unwrap();
    for (verb, options) in VERBS {
        ready.run(verb, options).expect(1, &["leads elsewhere"]);
        assert!(backup.join("diff").exists() && left.exists());
    }
    fs::remove_file(ready.path("aufs")).unwrap();
    symlink(disk, ready.path("aufs")).unwrap();
    ready.run("commit", &["--yes"]).expect(1, &["immutable"]);
    removed.flags.clear();
    ready.run("commit", &["--yes"]).expect(0, &[]);
    assert!(!waiting.exists() && !ready.path("aufs").is_symlink());
    assert!(disk.exists());
}

#[test]
fn what_comes_to_a_branch_that_is_in_parts_gone_is_named_and_stays() {
    let removed = BeingRemoved::new();
    let going = data_in(&removed.waiting().join("going/aufs"));
    let new = going.with_file_name("new");
    fs::write(&new, "new").unwrap();
    let file = File::options().write(true).open(&new).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    removed.flags.clear();
    for (verb, options) in VERBS {
        let words = ["is not what it was when the removal began", "/new"];
        removed.ready.run(verb, options).expect(1, &words);
        assert!(new.exists() && going.exists());
    }
    fs::rename(&new, removed.ready.path("kept")).unwrap();
    removed.ready.run("commit", &["--yes"]).expect(0, &[]);
}

#[test]
fn what_comes_where_aufs_was_is_none_of_the_removals() {
    let harms: [fn(&Path); 3] = [
        |disk| fs::create_dir_all(disk.join("diff/new")).unwrap(),
        |disk| fs::create_dir(disk.join("layers")).unwrap(),
        |disk| {
            let id = "0a".repeat(32);
            fs::create_dir_all(disk.join("mnt").join(id)).unwrap();
        },
    ];
    for harm in harms {
        let removed = BeingRemoved::new();
        harm(&removed.disk);
        removed.flags.clear();
        for options in [&["--yes"][..], &["--yes", "--drop-aufs-changes"]] {
            let ended = removed.ready.run("commit", options);
            ended.expect(1, &["move it elsewhere"]);
        }
        for part in ["diff", "layers", "mnt"] {
            let (from, to) = (removed.disk.join(part), removed.disk.join("kept"));
            if from.exists() {
                fs::rename(from, to).unwrap();
            }
        }
        removed.ready.run("resume", &[]).expect(0, &[]);
        assert!(removed.disk.join("kept").exists());
    }
}

/// What is written where the aufs side waits that is being removed, to the directory above its branches.
const LATE_WRITES: [fn(&Path); 5] = [
    |aufs| fs::create_dir_all(aufs.join("diff/new/empty")).unwrap(),
    |aufs| {
        let new = data_in(aufs).with_file_name("new");
        fs::write(&new, "new").unwrap();
        let file = File::options().write(true).open(new).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    },
    |aufs| HIDDEN_WRITES[0](&data_in(aufs)),
    |aufs| HIDDEN_WRITES[1](&data_in(aufs)),
    |aufs| fs::write(aufs.join("layers/new"), "").unwrap(),
];

#[test]
fn what_is_written_where_the_rest_of_aufs_waits_is_named_and_stays() {
    for write in LATE_WRITES {
        // A branch and a list stay whole, for they cannot be moved.
        let root = Ready::root();
        let flags = Flags(root.path());
        let branch = root.branch("web rw");
        let id = branch.file_name().unwrap().to_owned();
        let pieces = ["diff", "layers"].map(|part| Path::new(part).join(&id));
        for piece in &pieces {
            flags.set("+i", &root.path().join("aufs").join(piece));
        }
        let ready = Ready::of(root);
        let left = ready.path(".aufs2dm/removed/aufs");
        let ended = ready.run("commit", &["--yes"]);
        ended.expect(1, &["is immutable: chattr -i -a"]);
        for piece in &pieces {
            let mut chattr = Command::new("chattr");
            let done = chattr.args(["-i", "-a"]).arg(left.join(piece)).status();
            assert!(done.unwrap().success());
        }
        write(&left);
        for (verb, options) in VERBS {
            let words = [
                "is not what it was when the removal began",
                "removed/aufs/",
                "move what is needed",
            ];
            ready.run(verb, options).expect(1, &words);
            assert!(data_in(&left).exists());
        }
        let options = ["--yes", "--drop-aufs-changes"];
        ready.run("commit", &options).expect(0, &[]);
        assert!(!left.exists());
    }
}

#[test]
fn a_verification_that_could_not_look_does_not_hide_what_was_written_before_it() {
    for ((verb, options), in_full) in VERBS.into_iter().zip([false, true]) {
        let ready = set_out(Out::All);
        ready.note("removing");
        let data = ready.path("devicemapper/devicemapper/data");
        spoil_a_file(&ready.root.path());
        mark_not_unmounted(&data, true);
        if in_full {
            ready.run("verify", &["--full"]).expect(1, &[]);
        }
        ready.run(verb, options).expect(1, &["NOT VERIFIED"]);
        mark_not_unmounted(&data, false);
        let words = [
            "written to after the last full verification",
            "verify --full",
        ];
        ready.run(verb, options).expect(1, &words);
        assert!(ready.path(".aufs2dm/removed/aufs/diff").exists());
    }
}

#[test]
fn what_a_verification_finds_of_the_devices_does_not_hide_a_write_to_aufs() {
    for write in HIDDEN_WRITES {
        let ready = Ready::new();
        write(&in_aufs(&ready, "data"));
        let note = ready.path("devicemapper/metadata/base");
        let modified = note.metadata().unwrap().modified().unwrap();
        fs::write(&note, "{").unwrap();
        let file = File::options().write(true).open(&note).unwrap();
        file.set_modified(modified).unwrap();
        ready.run("verify", &[]).expect(3, &[]);
        // A quick one tells of an xattr itself.
        let words = ["the aufs side ", "rollback --onto-damaged"];
        ready.run("rollback", &[]).expect(1, &words);
        assert!(note.exists());
    }
}

#[test]
fn an_interrupted_rollback_looks_for_hidden_writes_too() {
    for write in HIDDEN_WRITES {
        let ready = Ready::new();
        ready.note("rolling-back");
        write(&in_aufs(&ready, "data"));
        for verb in ["rollback", "resume"] {
            let words = ["written to", "half moved", "rollback --onto-damaged"];
            ready.run(verb, &[]).expect(1, &words);
            assert!(ready.path("devicemapper/metadata/base").exists());
        }
        ready.run("rollback", &["--onto-damaged"]).expect(0, &[]);
    }
}
