//! The aufs side of a converted root that was changed, damaged or lost since: told from damage to the devices, and never the end of
//! all ways.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Whence, lseek64};
use serde_json::Value;
use walkdir::WalkDir;

use super::run::{Ended, Tool};
use super::support::fixture::unpack;

/// The fixture, converted and proven.
struct Converted {
    tool: Tool,
    _dir: tempfile::TempDir,
    root: PathBuf,
    /// The branch of an image's layer that has `etc/passwd`.
    branch: PathBuf,
    /// The branch of a container.
    container: PathBuf,
}

impl Converted {
    fn new() -> Self {
        let (tool, dir) = (Tool::new(), unpack("small.tar.xz"));
        let root = dir.path().join("docker");
        tool.run("convert", &root, &[]).expect(0, &[]);
        tool.run("verify", &root, &["--full"]).expect(0, &[]);
        let ids = |top: &str, name: &str| -> Vec<String> {
            let top = fs::read_dir(root.join("image/aufs/layerdb").join(top)).unwrap();
            let ids =
                top.map(|entry| fs::read_to_string(entry.unwrap().path().join(name)).unwrap());
            ids.collect()
        };
        let diff = root.join("aufs/diff");
        let with = |ids: Vec<String>, file: &str| {
            let branches = ids.iter().map(|id| diff.join(id));
            branches
                .filter(|branch| branch.join(file).exists())
                .min()
                .unwrap()
        };
        Self {
            branch: with(ids("sha256", "cache-id"), "etc/passwd"),
            container: with(ids("mounts", "mount-id"), "."),
            tool,
            root,
            _dir: dir,
        }
    }

    fn run(&self, verb: &str, options: &[&str]) -> Ended {
        self.tool.run(verb, &self.root, options)
    }

    #[track_caller]
    fn verified(&self, options: &[&str], code: i32, words: &[&str]) -> Value {
        let ended = self.run("verify", options);
        assert_eq!(ended.code, Some(code), "{ended:?}");
        for word in words {
            assert!(ended.out.contains(word), "{word}: {}", ended.out);
        }
        let json = self.run("verify", &[options, &["--json"]].concat());
        serde_json::from_str(&json.out).unwrap()
    }

    /// The devices are right: `commit` goes on by its own option, and `rollback` refuses.
    #[track_caller]
    fn has_a_way_on(&self) {
        self.run("commit", &["--yes"])
            .expect(1, &["commit --drop-aufs-changes --root"]);
        self.run("rollback", &[]).expect(1, &["--root"]);
        assert!(self.root.join("devicemapper/metadata/base").exists());
        self.run("commit", &["--yes", "--drop-aufs-changes"])
            .expect(0, &[]);
        assert!(!self.root.join("aufs").exists() && !self.root.join("image/aufs").exists());
        self.run("verify", &["--full"]).expect(0, &[]);
    }

    /// As a disk does it: nobody has written, so the time stays.
    fn spoil_device(&self) {
        let data = self.root.join("devicemapper/devicemapper/data");
        let modified = data.metadata().unwrap().modified().unwrap();
        let text = fs::read(self.branch.join("etc/passwd")).unwrap();
        let file = File::options().read(true).write(true).open(&data).unwrap();
        let (mut block, mut at) = (vec![0; text.len()], 0);
        loop {
            at = lseek64(&file, at, Whence::SeekData).expect("the file is in the pool");
            file.read_exact_at(&mut block, at.cast_unsigned()).unwrap();
            if block == text {
                file.write_all_at(b"!", at.cast_unsigned()).unwrap();
                break file.set_modified(modified).unwrap();
            }
            at += 4096;
        }
    }
}

fn append(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, text + "changed\n").unwrap();
}

#[test]
fn a_changed_image_layer_is_no_damage_to_the_device() {
    for mode in ["--full", "--quick"] {
        let root = Converted::new();
        append(&root.branch.join("etc/passwd"));
        fs::write(root.branch.join("new"), "").unwrap();
        let report = root.verified(
            &[mode],
            3,
            &[
                "/etc/passwd: size is",
                "/new: exists, but not in the layer's tar; only in aufs, since the conversion",
                "THE AUFS SIDE IS NOT WHAT WAS CONVERTED",
                "next: keep the devicemapper side",
            ],
        );
        assert_eq!(report["verdict"], "aufs-changed", "{report}");
        let status = root.run("status", &[]);
        for word in ["THE WAY BACK IS BROKEN", "refuses to go back to it"] {
            assert!(status.out.contains(word), "{}", status.out);
        }
        root.has_a_way_on();
    }
}

#[test]
fn a_changed_container_is_no_damage_to_the_device() {
    let root = Converted::new();
    fs::write(root.container.join("new"), "x").unwrap();
    let report = root.verified(&["--full"], 3, &["/new: ", "; only in aufs, since"]);
    assert_eq!(report["verdict"], "aufs-changed", "{report}");
    root.has_a_way_on();
}

/// What the journal noted of a branch does not show it.
#[test]
fn an_attribute_that_changed_in_aufs_keeps_commit_and_rollback() {
    let root = Converted::new();
    let passwd = root.branch.join("etc/passwd");
    xattr::set(&passwd, "trusted.aufs2dm", b"x").unwrap();
    let report = root.verified(&["--full"], 3, &["attribute trusted.aufs2dm is missing"]);
    assert_eq!(report["verdict"], "aufs-changed", "{report}");
    root.run("rollback", &[])
        .expect(1, &["a verification found this", "rollback --onto-damaged"]);
    root.has_a_way_on();
}

#[test]
fn a_branch_that_is_gone_is_no_damage_to_the_device() {
    for of_container in [false, true] {
        let root = Converted::new();
        let branch = if of_container {
            &root.container
        } else {
            &root.branch
        };
        fs::remove_dir_all(branch).unwrap();
        let name = branch.file_name().unwrap().to_str().unwrap();
        let word = format!("aufs/diff/{name}: is missing; only in aufs");
        let report = root.verified(&["--full"], 3, &[&word]);
        assert_eq!(report["verdict"], "aufs-changed", "{report}");
        root.has_a_way_on();
    }
}

#[test]
fn an_aufs_side_that_is_gone_has_a_way_on() {
    let lost: [fn(&Path); 5] = [
        |root| fs::remove_dir_all(root.join("aufs")).unwrap(),
        |root| fs::remove_dir_all(root.join("aufs/diff")).unwrap(),
        |root| fs::remove_dir_all(root.join("aufs/layers")).unwrap(),
        |root| fs::remove_dir_all(root.join("image/aufs")).unwrap(),
        |root| {
            fs::remove_dir_all(root.join("aufs")).unwrap();
            fs::remove_dir_all(root.join("image/aufs")).unwrap();
        },
    ];
    for (at, lose) in lost.into_iter().enumerate() {
        let root = Converted::new();
        lose(&root.root);
        let report = root.verified(&["--full"], 3, &["WAY BACK"]);
        assert_eq!(report["verdict"], "aufs-changed", "{at}: {report}");
        root.run("rollback", &[]).expect(
            1,
            &[
                "there is no way back",
                "is missing",
                "commit --drop-aufs-changes --root",
            ],
        );
        root.has_a_way_on();
    }
}

/// Takes the root back to where a kill in the middle of the move leaves it.
fn interrupt_move(root: &Path) {
    let stage = root.join(".aufs2dm");
    let journal = fs::read_to_string(stage.join("journal")).unwrap();
    let end = journal.find("{\"record\":\"switched\"").unwrap();
    fs::write(stage.join("journal"), &journal[..end]).unwrap();
    fs::rename(root.join("image/devicemapper"), stage.join("image")).unwrap();
}

/// What is written to the aufs side, and what is said of it.
type Write = (fn(&Converted), &'static str);

#[test]
fn a_move_that_was_interrupted_does_not_pass_over_what_aufs_was_given_since() {
    let writes: [Write; 4] = [
        (
            |root| fs::write(root.container.join("new"), "precious").unwrap(),
            "not what was converted (aufs/diff/",
        ),
        (
            |root| {
                let layer = root.root.join("aufs/diff").join("a".repeat(64));
                fs::create_dir(&layer).unwrap();
                fs::write(layer.join("data"), "precious").unwrap();
            },
            "new or written to since then (aufs/diff/aaaa",
        ),
        (
            |root| {
                let path = root.root.join("image/aufs/repositories.json");
                let text = fs::read_to_string(&path).unwrap();
                let new = format!("{{\"new\":{{\"new:1\":\"sha256:{}\"}},", "a".repeat(64));
                let text = text.replacen('{', "", 1).replacen('{', &new, 1);
                fs::write(&path, format!("{{{text}")).unwrap();
            },
            "new or written to since then (image/aufs/repositories.json",
        ),
        (
            |root| append(&root.root.join("image/aufs/repositories.json")),
            "not what was converted (image/aufs/repositories.json",
        ),
    ];
    for (write, named) in writes {
        let root = Converted::new();
        interrupt_move(&root.root);
        write(&root);
        let refused = root.run("resume", &[]);
        refused.expect(
            1,
            &[
                named,
                "rollback --onto-damaged --root",
                "resume --leave-aufs-changes --root",
            ],
        );
        assert!(!root.root.join("image/devicemapper").exists());
        let onward = root.run("resume", &["--leave-aufs-changes"]);
        onward.expect(0, &[named]);
        assert!(root.root.join("image/devicemapper").exists());
    }
    let root = Converted::new();
    interrupt_move(&root.root);
    fs::write(root.container.join("new"), "precious").unwrap();
    root.run("resume", &[]).expect(1, &[]);
    root.run("rollback", &["--onto-damaged"]).expect(0, &[]);
    assert_eq!(fs::read(root.container.join("new")).unwrap(), b"precious");
    root.run("convert", &[]).expect(0, &[]);
}

#[test]
fn a_move_that_was_interrupted_ends_although_the_aufs_side_is_gone() {
    for lost in [&["aufs"][..], &["aufs/diff"], &["aufs", "image/aufs"]] {
        let root = Converted::new();
        interrupt_move(&root.root);
        for part in lost {
            fs::remove_dir_all(root.root.join(part)).unwrap();
        }
        root.run("rollback", &[])
            .expect(1, &["there is no way back", "is missing", "resume --root"]);
        root.run("resume", &[]).expect(0, &[]);
        root.verified(&["--full"], 3, &["WAY BACK"]);
        root.has_a_way_on();
    }
}

/// A file of an image store, by its name and place.
fn in_store(store: &Path, name: &str) -> PathBuf {
    let files = WalkDir::new(store).sort_by_file_name().into_iter();
    let mut paths = files.map(|entry| entry.unwrap().into_path());
    paths.find(|path| path.ends_with(name)).unwrap()
}

#[test]
fn an_image_store_that_was_changed_on_the_aufs_side_is_no_damage_to_the_devices() {
    let changes: [fn(&Path); 3] = [
        |store| append(&in_store(store, "parent")),
        |store| {
            let record = in_store(store, "tar-split.json.gz");
            let file = File::options().write(true).open(record).unwrap();
            file.set_len(20).unwrap();
        },
        |store| {
            let config = fs::read_dir(store.join("imagedb/content/sha256")).unwrap();
            append(&config.map(|entry| entry.unwrap().path()).min().unwrap());
        },
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let root = Converted::new();
        change(&root.root.join("image/aufs"));
        for mode in ["--quick", "--full"] {
            let report = root.verified(&[mode], 3, &["image/aufs"]);
            assert_eq!(report["verdict"], "aufs-changed", "{at}: {report}");
        }
        root.has_a_way_on();
    }
}

#[test]
fn an_image_store_that_was_changed_beside_the_devices_is_damage() {
    let root = Converted::new();
    append(&in_store(&root.root.join("image/devicemapper"), "parent"));
    let report = root.verified(&["--full"], 3, &["image/devicemapper", "/parent: "]);
    assert_eq!(report["verdict"], "wrong", "{report}");
}

#[test]
fn damage_to_the_devices_alone_leads_back_to_aufs() {
    let root = Converted::new();
    root.spoil_device();
    let report = root.verified(&["--full"], 3, &["/etc/passwd: ", "goes back to it"]);
    assert_eq!(report["verdict"], "wrong", "{report}");
    for options in [&["--yes"][..], &["--yes", "--drop-aufs-changes"]] {
        root.run("commit", options)
            .expect(1, &["SOMETHING IS WRONG with the devices"]);
    }
    root.run("rollback", &[]).expect(0, &[]);
    root.run("verify", &["--full"]).expect(0, &[]);
}

#[test]
fn damage_to_both_sides_is_told_of_each() {
    let root = Converted::new();
    root.spoil_device();
    let hosts = root.branch.join("etc/group");
    fs::remove_file(&hosts).unwrap();
    let report = root.verified(
        &["--full"],
        3,
        &[
            "/etc/passwd: its content is not what Docker recorded (",
            "/etc/group: is missing; only in aufs, since the conversion",
            "SOMETHING IS WRONG with the devices, and the aufs side is not what was converted either",
            "next: save a copy of both sides; `aufs2dm rollback --onto-damaged",
        ],
    );
    assert_eq!(report["verdict"], "wrong", "{report}");
    for options in [&["--yes"][..], &["--yes", "--drop-aufs-changes"]] {
        root.run("commit", options)
            .expect(1, &["SOMETHING IS WRONG with the devices"]);
    }
    root.run("rollback", &[])
        .expect(1, &["rollback --onto-damaged --root"]);
    let back = root.run("rollback", &["--onto-damaged"]);
    back.expect(0, &[]);
    for words in [
        "is back on the aufs side as it is now",
        "not what was converted",
    ] {
        assert!(back.out.contains(words), "{back:?}");
    }
}
