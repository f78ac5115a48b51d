//! A removal or a way back that was interrupted goes on in what it began with, and only as long as that is what was looked at.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

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
fn being_emptied() -> (Ready, Flags) {
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
    assert!(data_in(&disk).exists());
    (ready, flags)
}

#[test]
fn an_aufs_that_is_emptied_behind_a_link_is_the_one_that_it_was() {
    let (ready, _flags) = being_emptied();
    let (disk, backup) = (ready.path("disk"), ready.path("backup"));
    copy(&disk, &backup);
    fs::remove_file(ready.path("aufs")).unwrap();
    symlink(&backup, ready.path("aufs")).unwrap();
    for (verb, options) in VERBS {
        ready.run(verb, options).expect(1, &["leads elsewhere"]);
        assert!(data_in(&backup).exists());
    }
    fs::remove_file(ready.path("aufs")).unwrap();
    symlink(&disk, ready.path("aufs")).unwrap();
    ready.run("commit", &["--yes"]).expect(1, &["immutable"]);
    // The same link to another directory of that name.
    fs::rename(&disk, ready.path("old")).unwrap();
    fs::rename(&backup, &disk).unwrap();
    for (verb, options) in VERBS {
        ready.run(verb, options).expect(1, &["leads elsewhere"]);
        assert!(data_in(&disk).exists());
    }
}

#[test]
fn what_is_written_where_aufs_is_being_emptied_is_named_and_stays() {
    let (ready, flags) = being_emptied();
    let disk = ready.path("disk");
    sleep(Duration::from_millis(1100)); // times are told apart by their seconds
    let newer = data_in(&disk).with_file_name("newer");
    fs::write(&newer, "newer").unwrap();
    flags.clear();
    for (verb, options) in VERBS {
        ready
            .run(verb, options)
            .expect(1, &["newer", "were not touched"]);
        assert!(newer.exists());
    }
    fs::rename(&newer, ready.path("kept")).unwrap();
    ready.run("commit", &["--yes"]).expect(0, &[]);
    assert!(!disk.join("diff").exists());
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
