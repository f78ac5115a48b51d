//! Bytes that rot on one side of a converted root, at the same size and time: of a container's own file no digest of Docker's tells
//! which side is right, so only what the conversion or a verification has noted does.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use nix::unistd::{Whence, lseek64};
use serde_json::Value;
use tempfile::TempDir;

use super::lost_on_devices::edit_superblocks;
use super::run::{Ended, Tool};
use super::support::root::AufsRoot;

/// A root with a container that has two files of its own.
struct Rotten {
    tool: Tool,
    root: AufsRoot,
}

const NAMES: [&str; 2] = ["first", "second"];

/// What a file of this name has; nothing else has it.
fn content(name: &str) -> Vec<u8> {
    format!("this is {name} ").repeat(700).into_bytes()
}

fn aufs_root() -> AufsRoot {
    AufsRoot::new()
        .layer("base", |l| l.file("bin/sh", "#!"))
        .image("lab/app:1", "base")
        .container("web", ("lab/app:1", "base"), |l| {
            NAMES.iter().fold(l, |l, name| l.file(name, content(name)))
        })
}

impl Rotten {
    fn converted(options: &[&str]) -> Self {
        let (tool, root) = (Tool::new(), aufs_root());
        tool.run("convert", &root.path(), options).expect(0, &[]);
        Self { tool, root }
    }

    fn run(&self, verb: &str, options: &[&str]) -> Ended {
        self.tool.run(verb, &self.root.path(), options)
    }

    /// The container's branch.
    fn branch(&self) -> PathBuf {
        let mounts = self.root.path().join("image/aufs/layerdb/mounts");
        let mount = fs::read_dir(mounts).unwrap().next().unwrap().unwrap();
        let id = fs::read_to_string(mount.path().join("mount-id")).unwrap();
        self.root.path().join("aufs/diff").join(id)
    }

    /// Changes a byte, and nothing else. A second time changes it back.
    fn rot_in_aufs(&self, name: &str) {
        let path = self.branch().join(name);
        let file = File::options().read(true).write(true).open(path).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        flip(&file, 5000);
        file.set_modified(modified).unwrap();
    }

    /// The same on the device.
    fn rot_on_device(&self, name: &str) {
        let data = self.root.path().join("devicemapper/devicemapper/data");
        let file = File::options().read(true).write(true).open(data).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        let text = content(name);
        let (mut found, mut at) = (vec![0; text.len()], 0);
        loop {
            at = lseek64(&file, at, Whence::SeekData).expect("the file is in the pool");
            file.read_exact_at(&mut found, at.cast_unsigned()).unwrap();
            if found == text {
                flip(&file, at.cast_unsigned() + 5000);
                return file.set_modified(modified).unwrap();
            }
            at += 4096;
        }
    }

    #[track_caller]
    fn verified(&self, code: i32, words: &[&str]) -> (String, Value) {
        let json = self.run("verify", &["--full", "--json"]);
        let ended = self.run("verify", &["--full"]);
        assert_eq!(ended.code, Some(code), "{ended:?}");
        for word in words {
            assert!(ended.out.contains(word), "{word}: {}", ended.out);
        }
        (ended.out, serde_json::from_str(&json.out).unwrap())
    }
}

fn flip(file: &File, at: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

fn grade<'r>(report: &'r Value, of: &Path) -> &'r Value {
    let id = of.file_name().unwrap().to_str().unwrap();
    let mut layers = report["layers"].as_array().unwrap().iter();
    &layers.find(|layer| layer["id"] == id).unwrap()["contents"]
}

const IN_AUFS: &str = "/first: differs from what was converted, from byte 5000 on; only in aufs, since the conversion";
const APART: &str = "/first: differs from aufs from byte 5000 on";

/// The noted digest comes from the conversion, or, where there is none (here without its own verification), from the first
/// verification that found both sides alike.
#[test]
fn bytes_that_rot_in_aufs_alone_are_no_damage_to_the_device() {
    for options in [&[][..], &["--no-verify"]] {
        let root = Rotten::converted(options);
        root.verified(0, &[]);
        root.rot_in_aufs("first");
        let (out, report) = root.verified(3, &[IN_AUFS, "THE AUFS SIDE IS NOT WHAT WAS CONVERTED"]);
        assert_eq!(report["verdict"], "aufs-changed", "{report}");
        assert_eq!(
            grade(&report, &root.branch())["by"],
            "checksums",
            "{report}"
        );
        assert!(!out.contains("aufs2dm rollback"), "{out}");
        root.run("rollback", &[])
            .expect(1, &["rollback --onto-damaged --root"]);
        root.run("commit", &["--yes"])
            .expect(1, &["commit --drop-aufs-changes --root"]);
        root.run("commit", &["--yes", "--drop-aufs-changes"])
            .expect(0, &[]);
    }
}

/// Not where the bytes are shared with aufs by reflink, which no file system in memory does.
#[test]
fn the_conversion_itself_notes_what_it_wrote() {
    let (tool, root) = (Tool::new(), aufs_root());
    let dir = TempDir::new_in("/dev/shm").unwrap();
    let copy = dir.path().join("docker");
    let copied = Command::new("cp")
        .arg("-a")
        .args([root.path(), copy.clone()])
        .status();
    assert!(copied.unwrap().success());
    tool.run("convert", &copy, &[]).expect(0, &[]);
    let journal = fs::read_to_string(copy.join(".aufs2dm/journal")).unwrap();
    assert!(journal.contains("\"bytes\":{\""), "{journal}");
    tool.run("verify", &copy, &["--full"]).expect(0, &[]);
    let after = fs::read_to_string(copy.join(".aufs2dm/journal")).unwrap();
    let notes = after.matches("\"record\":\"entries\"").count();
    assert_eq!(notes, 1, "{after}");
}

#[test]
fn other_changes_in_aufs_do_not_hide_bytes_that_rotted_there() {
    let root = Rotten::converted(&[]);
    root.verified(0, &[]);
    root.rot_in_aufs("first");
    fs::remove_file(root.branch().join("second")).unwrap();
    let (_, report) = root.verified(3, &[IN_AUFS, "/second: "]);
    assert_eq!(report["verdict"], "aufs-changed", "{report}");
}

#[test]
fn bytes_that_rot_on_the_device_lead_back_to_aufs() {
    let root = Rotten::converted(&[]);
    root.verified(0, &[]);
    root.rot_on_device("first");
    let back = format!("`aufs2dm rollback --root {}", root.root.path().display());
    let (_, report) = root.verified(3, &[APART, "SOMETHING IS WRONG with the devices", &back]);
    assert_eq!(report["verdict"], "wrong", "{report}");
    assert_eq!(report["aufs"], serde_json::json!([]), "{report}");
    root.run("commit", &["--yes", "--drop-aufs-changes"])
        .expect(1, &["SOMETHING IS WRONG"]);
    root.run("rollback", &[]).expect(0, &[]);
    assert_eq!(
        fs::read(root.branch().join("first")).unwrap(),
        content("first")
    );
}

#[test]
fn bytes_that_rot_on_both_sides_are_told_of_both() {
    let root = Rotten::converted(&[]);
    root.verified(0, &[]);
    root.rot_on_device("first");
    root.rot_in_aufs("second");
    let both =
        "SOMETHING IS WRONG with the devices, and the aufs side is not what was converted either";
    let (out, report) = root.verified(3, &[APART, "/second: differs from aufs", both]);
    assert_eq!(report["verdict"], "wrong", "{report}");
    assert!(out.contains("save a copy of both sides"), "{out}");
    root.run("rollback", &[])
        .expect(1, &["rollback --onto-damaged --root"]);
}

#[test]
fn where_nothing_was_noted_neither_side_is_called_right() {
    for on_device in [false, true] {
        let root = Rotten::converted(&["--no-verify"]);
        if on_device {
            root.rot_on_device("first");
        } else {
            root.rot_in_aufs("first");
        }
        let (out, report) = root.verified(
            3,
            &[
                "/first: differs from aufs from byte 5000 on; nothing shows which side is right",
                "THE TWO SIDES DIFFER",
            ],
        );
        assert_eq!(report["verdict"], "undecided", "{report}");
        assert_eq!(
            grade(&report, &root.branch())["grade"],
            "undecided",
            "{report}"
        );
        assert!(!out.contains("`aufs2dm rollback --root"), "{out}");
        assert!(!out.contains("IS WRONG"), "{out}");
        let status = root.run("status", &[]);
        assert!(
            status.out.contains("nothing shows which side is right"),
            "{status:?}"
        );
        assert!(!status.out.contains("goes back to aufs"), "{status:?}");
        // No way is taken by itself, and a quick verification, which does not read the bytes, opens none.
        root.run("verify", &["--quick"]).expect(0, &[]);
        for options in [&["--yes"][..], &["--yes", "--drop-aufs-changes"]] {
            root.run("commit", options)
                .expect(1, &["nothing shows which", "verify --full"]);
        }
        root.run("rollback", &[]).expect(
            1,
            &["nothing shows which", "rollback --onto-damaged --root"],
        );
        assert!(root.root.path().join("devicemapper/metadata/base").exists());
    }
}

/// The time of a file that the driver writes is anybody's to set, and when it was noted is in the journal.
#[test]
fn a_note_whose_time_was_set_back_makes_no_file_of_a_used_device_a_changed_one() {
    for set_back in [false, true] {
        let root = Rotten::converted(&["--no-verify"]);
        root.rot_on_device("first");
        let home = root.root.path().join("devicemapper");
        // The kernel mounted it tomorrow.
        let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
        let tomorrow = tomorrow.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let seconds = u32::try_from(tomorrow.as_secs()).unwrap();
        edit_superblocks(&home.join("devicemapper/data"), &|superblock| {
            superblock[0x2C..0x30].copy_from_slice(&seconds.to_le_bytes());
        });
        if set_back {
            for note in fs::read_dir(home.join("metadata")).unwrap() {
                let note = File::options().write(true).open(note.unwrap().path());
                note.unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
            }
        }
        let (_, report) = root.verified(3, &["/first: differs from aufs"]);
        assert_eq!(report["verdict"], "undecided", "{report}");
    }
}

#[test]
fn an_undecided_file_has_a_way_on_to_either_side() {
    // Aufs is right.
    let root = Rotten::converted(&["--no-verify"]);
    root.rot_on_device("first");
    root.verified(3, &["rollback --onto-damaged --root"]);
    root.run("rollback", &["--onto-damaged"]).expect(0, &[]);
    assert_eq!(
        fs::read(root.branch().join("first")).unwrap(),
        content("first")
    );
    // The device is: aufs is given its bytes.
    let root = Rotten::converted(&["--no-verify"]);
    root.rot_in_aufs("first");
    root.verified(3, &[]);
    root.rot_in_aufs("first");
    root.verified(0, &[]);
    root.run("commit", &["--yes"]).expect(0, &[]);
}

/// A root whose layer is proven by its digest.
fn proven_root() -> AufsRoot {
    AufsRoot::new()
        .recorded()
        .layer("base", |l| l.file("data", content("base")))
        .image("lab/app:1", "base")
}

/// The devices are proven by their digests, so aufs is not read: nothing more may be claimed.
#[test]
fn no_more_is_called_right_than_what_was_read() {
    let tool = Tool::new();
    let root = proven_root();
    let path = root.path();
    let before = tool.run("verify", &path, &["--full"]);
    before.expect(0, &[]);
    assert!(before.out.contains("\nnothing is wrong\n"), "{before:?}");
    tool.run("convert", &path, &[]).expect(0, &[]);
    let full = tool.run("verify", &path, &["--full"]);
    full.expect(0, &[]);
    let end = "\nnothing is wrong with the devices; the bytes of 1 layer in aufs were not read\n";
    assert!(full.out.contains(end), "{full:?}");
    let said = "nothing wrong with the devices (1 layer, 1 not read in aufs)";
    let status = tool.run("status", &path, &[]);
    assert!(status.out.contains(said), "{status:?}");
    tool.run("commit", &path, &["--yes"]).expect(0, &[]);
    let after = tool.run("verify", &path, &["--full"]);
    after.expect(0, &[]);
    assert!(!after.out.contains("nothing is wrong"), "{after:?}");
    assert!(after.out.contains("1 not compared"), "{after:?}");
}

/// The devices are proven by their digests here, too, but aufs is read, for something was written there behind its time.
#[test]
fn after_a_write_to_aufs_a_full_verification_reads_what_was_written() {
    let tool = Tool::new();
    let root = proven_root();
    let path = root.path();
    tool.run("convert", &path, &[]).expect(0, &[]);
    tool.run("verify", &path, &["--full"]).expect(0, &[]);
    let write = || {
        let file = root.branch("base").join("data");
        let file = File::options().read(true).write(true).open(file).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        flip(&file, 5000);
        file.set_modified(modified).unwrap();
    };
    write();
    tool.run("rollback", &path, &[]).expect(1, &["written to"]);
    for _ in 0..2 {
        tool.run("rollback", &path, &[])
            .expect(1, &["the aufs side"]);
        let full = tool.run("verify", &path, &["--full"]);
        full.expect(3, &[]);
        let words = "/data: differs from what was converted, from byte 5000 on";
        assert!(full.out.contains(words), "{full:?}");
        let words = ["is not what was converted", "rollback --onto-damaged"];
        tool.run("rollback", &path, &[]).expect(1, &words);
        // It reads no bytes of aufs, and clears nothing up.
        tool.run("verify", &path, &["--quick"]).expect(0, &[]);
        tool.run("commit", &path, &["--yes"]).expect(1, &[]);
    }
    write();
    let words = ["is not what was converted"];
    tool.run("rollback", &path, &[]).expect(1, &words);
    let full = tool.run("verify", &path, &["--full"]);
    full.expect(0, &[]);
    assert!(!full.out.contains("were not read"), "{full:?}");
    tool.run("rollback", &path, &[]).expect(0, &[]);
}

const NOT_THOSE: &str = "some bytes of its files on the device are not those that were converted";

/// What aufs cannot tell of a file any more, the noted digest does.
#[test]
fn bytes_that_rot_on_the_device_are_wrong_where_aufs_has_the_file_no_more_as_it_was() {
    let harms: [fn(&Rotten); 3] = [
        |root| {
            File::open(root.branch().join("first"))
                .unwrap()
                .set_modified(SystemTime::now())
                .unwrap();
        },
        |root| fs::remove_file(root.branch().join("first")).unwrap(),
        |root| fs::remove_dir_all(root.branch()).unwrap(),
    ];
    for harm in harms {
        let root = Rotten::converted(&[]);
        harm(&root);
        root.verified(3, &["the devices are right"]);
        root.rot_on_device("first");
        let (_, report) = root.verified(3, &[NOT_THOSE]);
        assert_eq!(report["verdict"], "wrong", "{report}");
        root.run("commit", &["--yes", "--drop-aufs-changes"])
            .expect(1, &["verify --full"]);
    }
}
