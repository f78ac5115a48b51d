//! `commit` removes the only other copy: each of its conditions is broken alone.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::{Whence, lseek64};
use serde_json::Value;

use super::run::{Ended, Tool};
use super::support::root::AufsRoot;
use super::support::trace::{assert_same, trace_but_reads};

/// A root that could be committed.
pub(crate) struct Ready {
    pub(crate) tool: Tool,
    pub(crate) root: AufsRoot,
}

impl Ready {
    pub(crate) fn new() -> Self {
        Self::of(Self::root())
    }

    pub(crate) fn root() -> AufsRoot {
        let root = AufsRoot::new()
            .layer("base", |l| l.file("etc/motd", "hello"))
            .layer("app", |l| l.whiteout("etc/motd").dir("app"))
            .image("lab/app:1", "app");
        root.container("web", ("lab/app:1", "app"), |l| l.file("data", [7; 9000]))
    }

    pub(crate) fn of(root: AufsRoot) -> Self {
        let ready = Self {
            tool: Tool::new(),
            root,
        };
        ready.run("convert", &[]).expect(0, &[]);
        ready.run("verify", &["--full"]).expect(0, &[]);
        ready
    }

    pub(crate) fn path(&self, inner: &str) -> PathBuf {
        self.root.path().join(inner)
    }

    pub(crate) fn run(&self, verb: &str, options: &[&str]) -> Ended {
        self.tool.run(verb, &self.root.path(), options)
    }

    /// `commit` must fail, name all the words and leave the aufs side as it is, byte for byte.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        let sides = ["aufs", "image/aufs"].map(|side| self.path(side));
        let before = sides.each_ref().map(|side| trace_but_reads(side));
        self.run("commit", &["--yes"]).expect(code, words);
        for (side, before) in sides.iter().zip(&before) {
            assert_same(before, &trace_but_reads(side));
        }
        assert!(!self.path(".aufs2dm/removed").exists());
    }

    #[track_caller]
    pub(crate) fn committed(&self, options: &[&str]) -> Ended {
        let ended = self.run("commit", &[&["--yes"], options].concat());
        ended.expect(0, &[]);
        assert!(!self.path("aufs").exists() && !self.path("image/aufs").exists());
        ended
    }
}

/// Writes other bytes over the content of the container's `data` in the pool.
pub(crate) fn spoil_a_file(root: &Path) {
    let data = File::options()
        .read(true)
        .write(true)
        .open(root.join("devicemapper/devicemapper/data"))
        .unwrap();
    let mut at = 0;
    let mut block = [0; 4096];
    loop {
        at = lseek64(&data, at, Whence::SeekData).expect("the file is in the pool");
        data.read_exact_at(&mut block, at.cast_unsigned()).unwrap();
        if block == [7; 4096] {
            break data.write_all_at(&[8; 100], at.cast_unsigned()).unwrap();
        }
        at += 4096;
    }
}

#[test]
fn what_was_proven_is_committed() {
    Ready::new().committed(&[]);
}

#[test]
fn a_full_verification_that_fails_voids_the_one_before_it_and_status_says_so() {
    let ready = Ready::new();
    spoil_a_file(&ready.root.path());
    ready.run("verify", &["--full"]).expect(3, &[]);
    let status = ready.run("status", &[]);
    status.expect(0, &[]);
    for words in [
        "a verification of it failed",
        "SOMETHING IS WRONG",
        "in full on 20",
    ] {
        assert!(status.out.contains(words), "{words}: {}", status.out);
    }
    assert!(!status.out.contains("commit"), "{}", status.out);
    let status = ready.run("status", &["--json"]);
    let status: Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(status["verified"]["verdict"], "wrong");
    ready.refused(1, &["verification", "verify --full"]);
}

/// The id of the only image.
fn image(root: &Path) -> String {
    let store = root.join("image/aufs/imagedb/content/sha256");
    let mut names = fs::read_dir(store).unwrap().map(|entry| entry.unwrap());
    names.next().unwrap().file_name().into_string().unwrap()
}

#[test]
fn a_devicemapper_side_that_is_gone_or_cut_keeps_aufs() {
    let harms: [fn(&Path); 4] = [
        |root| fs::remove_file(root.join("devicemapper/devicemapper/data")).unwrap(),
        |root| fs::remove_file(root.join("devicemapper/devicemapper/metadata")).unwrap(),
        |root| {
            let data = root.join("devicemapper/devicemapper/data");
            File::options()
                .write(true)
                .open(data)
                .unwrap()
                .set_len(0)
                .unwrap();
        },
        |root| fs::remove_file(root.join("devicemapper/metadata/base")).unwrap(),
    ];
    for harm in harms {
        let ready = Ready::new();
        harm(&ready.root.path());
        ready.refused(
            1,
            &[
                "the devicemapper side was written to after",
                "verify --full --root",
            ],
        );
    }
    for part in ["devicemapper", "image/devicemapper"] {
        let ready = Ready::new();
        fs::remove_dir_all(ready.path(part)).unwrap();
        let missing = format!("{}: is missing", ready.path(part).display());
        ready.refused(1, &[&missing, "rollback --root"]);
    }
}

#[test]
fn what_docker_did_on_the_devices_after_the_proof_must_be_verified_first() {
    let ready = Ready::new();
    let config = ready
        .path("containers")
        .join(super::support::root::container_id("web"));
    let config = config.join("config.v2.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(config.with_extension("new"), text.replace('}', " }")).unwrap();
    fs::rename(config.with_extension("new"), &config).unwrap();
    ready.refused(
        1,
        &[
            "written to after",
            "the containers' configs",
            "verify --full --root",
        ],
    );
    ready.run("verify", &[]).expect(0, &[]);
    ready.refused(1, &["written to after"]);
    ready.run("verify", &["--full"]).expect(0, &[]);
    ready.committed(&[]);
}

#[test]
fn what_docker_did_on_aufs_is_listed_and_only_a_word_of_its_own_drops_it() {
    let ready = Ready::new();
    let root = ready.root.path();
    // The least that a build leaves: one more config of the same layers, and its name.
    let id = image(&root);
    let store = root.join("image/aufs/imagedb/content/sha256");
    let text = fs::read_to_string(store.join(&id)).unwrap();
    fs::write(store.join("0".repeat(64)), text.replace("2020", "2021")).unwrap();
    let names = root.join("image/aufs/repositories.json");
    let text = fs::read_to_string(&names).unwrap();
    let name = format!("\"lab/app:2\":\"sha256:{}\",\"lab/app:1\"", "0".repeat(64));
    fs::write(&names, text.replace("\"lab/app:1\"", &name)).unwrap();
    let words = ["lab/app:2", "imagedb/content/sha256/00000"];
    let status = ready.run("status", &[]);
    for word in words {
        assert!(status.out.contains(word), "{word}: {}", status.out);
    }
    ready.refused(1, &[words[0], words[1], "commit --drop-aufs-changes"]);
    ready.run("verify", &["--full"]).expect(0, &[]);
    ready.refused(1, &[words[0]]);
    ready.committed(&["--drop-aufs-changes"]);
}

#[test]
fn a_branch_or_list_that_is_new_gone_or_changed_keeps_aufs() {
    let changes: [fn(&AufsRoot); 5] = [
        |root| {
            let branch = root.path().join("aufs/diff").join("1".repeat(64));
            fs::create_dir(&branch).unwrap();
            fs::write(branch.join("file"), "x").unwrap();
        },
        |root| fs::write(root.path().join("aufs/layers").join("1".repeat(64)), "").unwrap(),
        |root| fs::write(root.branch("base").join("etc/new"), "").unwrap(),
        |root| fs::remove_file(root.path().join("aufs/layers").join(root.id("app"))).unwrap(),
        |root| fs::write(root.path().join("aufs/precious"), "x").unwrap(),
    ];
    for change in changes {
        let ready = Ready::new();
        change(&ready.root);
        ready.refused(1, &["the aufs side is not what was converted"]);
    }
}

#[test]
fn what_was_left_out_of_the_conversion_is_named_and_dropped_by_its_own_word_alone() {
    let root = Ready::root();
    let left = root
        .path()
        .join("aufs/diff")
        .join(format!("{}-removing", "1".repeat(64)));
    fs::create_dir(&left).unwrap();
    fs::write(left.join("file"), "x").unwrap();
    // Without data it is no loss.
    fs::create_dir(
        root.path()
            .join("aufs/diff")
            .join(format!("{}-removing", "2".repeat(64))),
    )
    .unwrap();
    let ready = Ready::of(root);
    ready.refused(
        1,
        &[
            "left out 1 object",
            "1111-removing",
            "commit --drop-left-out",
        ],
    );
    ready
        .run("commit", &["--yes", "--drop-aufs-changes"])
        .expect(1, &["left out"]);
    ready.committed(&["--drop-left-out"]);
}

#[test]
fn what_lay_among_the_lists_before_is_left_out_and_no_change_since() {
    let (tool, root) = (Tool::new(), Ready::root());
    fs::write(root.path().join("aufs/layers/notes"), "precious").unwrap();
    tool.run("convert", &root.path(), &["--skip-orphans"])
        .expect(0, &[]);
    tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
    let ready = Ready { tool, root };
    ready.refused(1, &["aufs/layers/notes", "commit --drop-left-out"]);
    ready.committed(&["--drop-left-out"]);
}

#[test]
fn of_what_was_left_out_only_what_aufs_itself_makes_is_no_data() {
    let own = |left: &Path| {
        for directory in [".wh..wh.plnk", ".wh..wh.orph", "dir"] {
            fs::create_dir_all(left.join(directory)).unwrap();
        }
        for marker in [".wh..wh.aufs", "dir/.wh..wh..opq"] {
            fs::write(left.join(marker), "").unwrap();
        }
    };
    for (name, text) in [
        ("", ""),
        (".wh..wh.notes", "precious"),
        (".wh..wh.dir.0a1f/file", "precious"),
        (".wh..wh.aufs", "precious"),
        (".wh..wh.orph/file", "precious"),
        (".wh..wh.notes", ""),
    ] {
        let root = Ready::root();
        let left = format!("aufs/diff/{}-removing", "1".repeat(64));
        let left = root.path().join(left);
        own(&left);
        if !name.is_empty() {
            let file = left.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let ready = Ready::of(root);
        if !name.is_empty() {
            ready.refused(1, &["left out 1 object", "1111-removing"]);
            fs::remove_file(left.join(name)).unwrap();
        }
        ready.committed(&[]);
    }
}

#[test]
fn what_aufs_keeps_in_a_converted_branch_and_shows_nowhere_is_named_and_dropped_by_its_own_word_alone()
 {
    for (hidden, is_alone) in [
        (".wh..wh.plnk/12.34", true),
        (".wh..wh.plnk/12.34", false),
        (".wh..wh.orph/5678", true),
        (".wh..wh.notes", true),
        ("deep/er/.wh..wh.notes", true),
        ("deep/.wh..wh.dir.0a1f/5678", true),
        ("deep/.wh.gone", true),
    ] {
        let root = Ready::root();
        let branch = root.branch("web rw");
        let file = branch.join(hidden);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        if is_alone {
            fs::write(&file, "precious").unwrap();
        } else {
            fs::hard_link(branch.join("data"), &file).unwrap();
        }
        let ready = Ready::of(root);
        if is_alone {
            let told = hidden.trim_end_matches("/5678");
            ready.refused(1, &[told, "commit --drop-left-out"]);
            ready.committed(&["--drop-left-out"]);
        } else {
            ready.committed(&[]);
        }
    }
}

#[test]
fn status_tells_what_the_full_verification_has_not_seen() {
    let ready = Ready::new();
    let told = ready.run("status", &[]);
    told.expect(0, &[]);
    assert!(told.out.contains("commit") && !told.out.contains("written to"));
    fs::remove_file(ready.path("devicemapper/devicemapper/data")).unwrap();
    let told = ready.run("status", &[]);
    told.expect(0, &[]);
    let words = "written to after the last full verification (";
    assert!(
        told.out.contains(words) && told.out.contains("verify --full"),
        "{}",
        told.out
    );
    assert!(!told.out.contains("removes the aufs side"), "{}", told.out);
    let json = ready.run("status", &["--json"]).out;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["written_since"].is_string(), "{json:#}");
}

/// Puts data into a branch by a name that no device gets.
type Hide = fn(&Path);

#[test]
fn data_that_only_a_hidden_name_leads_to_is_named_and_dropped_by_its_own_word_alone() {
    const LINKS: &str = ".wh..wh.plnk";
    let hides: [(&str, Hide); 8] = [
        (".wh..wh.plnk/d/file", |branch| {
            fs::create_dir_all(branch.join(LINKS).join("d")).unwrap();
            fs::write(branch.join(LINKS).join("d/file"), "precious").unwrap();
        }),
        (".wh..wh.plnk/1.2", |branch| {
            fs::create_dir_all(branch.join(LINKS)).unwrap();
            fs::write(branch.join(LINKS).join("1.2"), "precious").unwrap();
            fs::hard_link(
                branch.join(LINKS).join("1.2"),
                branch.join(LINKS).join("3.4"),
            )
            .unwrap();
        }),
        (".wh..wh.plnk/", |branch| {
            fs::create_dir_all(branch.join(LINKS)).unwrap();
            let name = OsStr::from_bytes(b"\xff\xfe");
            fs::write(branch.join(LINKS).join(name), "precious").unwrap();
        }),
        (".wh..wh.plnk/1.2", |branch| {
            fs::create_dir_all(branch.join(LINKS)).unwrap();
            symlink("precious", branch.join(LINKS).join("1.2")).unwrap();
        }),
        // The other name of its data is hidden as well.
        ("deep/.wh.gone", |branch| {
            fs::create_dir_all(branch.join(LINKS)).unwrap();
            fs::create_dir_all(branch.join("deep")).unwrap();
            fs::write(branch.join("deep/.wh.gone"), "precious").unwrap();
            fs::hard_link(branch.join("deep/.wh.gone"), branch.join(LINKS).join("1.2")).unwrap();
        }),
        (".wh..wh.plnk", |branch| {
            fs::remove_dir_all(branch.join(LINKS)).unwrap();
            fs::write(branch.join(LINKS), "precious").unwrap();
        }),
        ("deep/file", |branch| {
            fs::create_dir_all(branch.join("deep")).unwrap();
            fs::write(branch.join("deep/file"), "precious").unwrap();
            fs::write(branch.join("deep/.wh.file"), "").unwrap();
        }),
        ("deep/er", |branch| {
            fs::create_dir_all(branch.join("deep/er/still")).unwrap();
            fs::write(branch.join("deep/er/still/file"), "precious").unwrap();
            fs::write(branch.join("deep/.wh.er"), "").unwrap();
        }),
    ];
    for (told, hide) in hides {
        let root = Ready::root();
        hide(&root.branch("web rw"));
        let ready = Ready::of(root);
        ready.refused(
            1,
            &[
                told,
                "the conversion left out",
                " object",
                "commit --drop-left-out",
            ],
        );
        ready.committed(&["--drop-left-out"]);
    }
}

/// Sets the mark of the pool's superblock that a check is needed. Source: linux v6.6 `drivers/md/dm-thin-metadata.c`,
/// `struct thin_disk_superblock`, and `persistent-data/dm-space-map-common.c` for the checksum's constant.
fn mark_as_needing_a_check(root: &Path) {
    const SUPERBLOCK_CSUM_XOR: u32 = 160_774;
    let file = root.join("devicemapper/devicemapper/metadata");
    let file = File::options().read(true).write(true).open(file).unwrap();
    let mut block = [0; 4096];
    file.read_exact_at(&mut block, 0).unwrap();
    block[4] |= 1;
    let sum = !crc32c_of(&block[4..]) ^ SUPERBLOCK_CSUM_XOR;
    block[..4].copy_from_slice(&sum.to_le_bytes());
    file.write_all_at(&block, 0).unwrap();
}

/// CRC-32C as it is commonly given, bit by bit.
fn crc32c_of(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for &byte in bytes {
        sum ^= u32::from(byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 {
                sum >> 1 ^ 0x82f6_3b78
            } else {
                sum >> 1
            };
        }
    }
    !sum
}

#[test]
fn a_pool_that_needs_a_check_is_a_fault_and_keeps_aufs() {
    let ready = Ready::new();
    mark_as_needing_a_check(&ready.root.path());
    let ended = ready.run("verify", &["--full"]);
    ended.expect(3, &[]);
    let command = "thin_check --clear-needs-check-flag";
    assert!(ended.out.contains(command), "{}", ended.out);
    ready.refused(1, &["SOMETHING IS WRONG"]);
}

#[test]
fn rollback_does_not_end_on_an_aufs_side_that_is_damaged() {
    let harms: [fn(&AufsRoot); 4] = [
        |root| fs::remove_dir_all(root.branch("base")).unwrap(),
        |root| fs::remove_file(root.branch("web rw").join("data")).unwrap(),
        |root| fs::remove_file(root.path().join("aufs/layers").join(root.id("app"))).unwrap(),
        |root| fs::remove_dir_all(root.layerdb("app")).unwrap(),
    ];
    for (at, harm) in harms.into_iter().enumerate() {
        let ready = Ready::new();
        harm(&ready.root);
        ready
            .run("rollback", &[])
            .expect(1, &["only good copy", "rollback --onto-damaged --root"]);
        assert!(ready.path("devicemapper/devicemapper/data").exists());
        let verified = ready.run("verify", &["--full"]);
        assert!(
            verified.out.contains("THE WAY BACK IS BROKEN"),
            "{at}: {}",
            verified.out
        );
        // Entries of branches are not gone through for it.
        if at != 1 {
            let status = ready.run("status", &[]);
            assert!(
                status.out.contains("THE WAY BACK IS BROKEN"),
                "{}",
                status.out
            );
        }
        ready.run("rollback", &["--onto-damaged"]).expect(0, &[]);
        assert!(!ready.path("devicemapper").exists());
    }
}

#[test]
fn after_commit_every_command_knows_what_was_done() {
    let ready = Ready::new();
    ready.committed(&[]);
    let status = ready.run("status", &["--json"]);
    let status: Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(status["state"], "committed");
    for verb in ["convert", "resume", "rollback", "commit"] {
        let ended = ready.run(verb, &[]);
        ended.expect(1, &["committed on 20", "there is no way back"]);
        assert!(!ended.err.contains("hint:"), "{}", ended.err);
    }
    let record = fs::read_to_string(ready.path(".aufs2dm.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["verified"]["verdict"], "sound");
    ready.run("verify", &["--full"]).expect(0, &[]);
}
