//! A record of what was made outside of the root that no run has written, alone or with a journal that fits it. What follows from such
//! a record is zeroed or deleted, so it must be what was ordered, and what it leads to must prove to be the conversion's own.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use aufs2dm::engine::kernel::claim;
use aufs2dm::thin::{self, Mapping, ThinId};
use aufs2dm::units::{DataBlocks, MetaBlocks, Sectors};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::forged_journal::{BEGUN, forge};
use super::run::{Ended, Tool, small_root};
use super::support::root::AufsRoot;
use super::support::trace::{assert_same, contents};
use crate::support::scratch::scratch;

/// The first line of a conversion's journal, as the tool writes it, with another writer and number of devices.
fn begun(writer: &Value, devices: u32) -> String {
    let (tool, root) = (Tool::new(), small_root());
    tool.run("convert", &root.path(), &["--no-verify"])
        .expect(0, &[]);
    let journal = fs::read_to_string(root.path().join(".aufs2dm/journal")).unwrap();
    let mut line: Value = serde_json::from_str(journal.lines().next().unwrap()).unwrap();
    // Where it was begun is not told, as in journals of earlier versions: whoever forges one leaves it out.
    line["order"]
        .as_object_mut()
        .unwrap()
        .remove("begun_at")
        .unwrap();
    line.as_object_mut().unwrap().remove("crc64");
    line["order"]["writer"] = writer.clone();
    line["order"]["devices"] = devices.into();
    line.to_string()
}

fn kernel(target: &Value) -> Value {
    json!({"kernel": {"target": target, "file_system": "ext4"}})
}

fn to_devices(pool: &Pool) -> Value {
    kernel(&json!({"devices": {"data": pool.data, "metadata": pool.metadata}}))
}

/// Two files of a pool.
struct Pool {
    data: PathBuf,
    metadata: PathBuf,
}

impl Pool {
    fn of_root(root: &AufsRoot) -> Self {
        let home = root.path().join("devicemapper/devicemapper");
        Self::below(&home.canonicalize().unwrap())
    }

    fn below(directory: &Path) -> Self {
        Self {
            data: directory.join("data"),
            metadata: directory.join("metadata"),
        }
    }

    /// The record of a run into them that is written now.
    fn claim(&self, last_thin_id: u32, base_uuid: Option<&str>) -> Value {
        let identity = |path: &Path| {
            let meta = path.metadata().unwrap();
            json!({"file": {"dev": meta.dev(), "inode": meta.ino()}})
        };
        let mut claim = json!({
            "target": "devices",
            "data": {"path": self.data, "identity": identity(&self.data)},
            "metadata": {"path": self.metadata, "identity": identity(&self.metadata)},
            "last_thin_id": last_thin_id,
            "boot_id": claim::boot_id().unwrap(),
        });
        if let Some(uuid) = base_uuid {
            claim["base_uuid"] = uuid.into();
        }
        claim
    }

    fn digests(&self) -> [String; 2] {
        let mut first = vec![0; 4 << 20];
        File::open(&self.data)
            .unwrap()
            .read_exact_at(&mut first, 0)
            .unwrap();
        let metadata = fs::read(&self.metadata).unwrap();
        [first, metadata].map(|bytes| format!("{:x}", Sha256::digest(bytes)))
    }

    fn is_wiped(&self) -> bool {
        let mut first = [0; 4096];
        let metadata = File::open(&self.metadata).unwrap();
        metadata.read_exact_at(&mut first, 0).unwrap();
        first == [0; 4096]
    }
}

/// Another root with a pool in loop files.
fn another_root() -> (AufsRoot, Pool) {
    let (tool, root) = (Tool::new(), small_root());
    let sizes = ["--data-size", "1G", "--metadata-size", "4M", "--no-verify"];
    tool.run("convert", &root.path(), &sizes).expect(0, &[]);
    let pool = Pool::of_root(&root);
    (root, pool)
}

fn write_claim(root: &Path, claim: &Value) {
    let path = root.join(".aufs2dm/claim.json");
    fs::write(&path, claim.to_string()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A verb, run on a root with this journal and this record.
fn run(verb: &str, journal: &str, claim: &Value) -> (AufsRoot, Ended) {
    let (tool, root) = (Tool::new(), small_root());
    forge(&root.path(), &[journal]);
    write_claim(&root.path(), claim);
    let before = contents(&root.path());
    let ended = tool.run(verb, &root.path(), &[]);
    if ended.code != Some(0) {
        assert_same(&before, &contents(&root.path()));
    }
    (root, ended)
}

/// No command changes anything, and each says what is wrong and the way on.
fn refused(pool: &Pool, journal: &str, claim: &Value, words: &[&str]) {
    let before = pool.digests();
    for verb in ["convert", "resume", "rollback"] {
        let (_root, ended) = run(verb, journal, claim);
        let told = [&["claim.json", "remove"], words].concat();
        ended.expect(1, &told);
        assert_eq!(before, pool.digests(), "{verb}");
    }
}

const NOT_BELIEVED: &str = "nothing was done, because it is not known who wrote it";

fn pool_claim(name: &str) -> Value {
    json!({
        "target": "thin-pool", "name": name, "uuid": null, "transaction_id": 0,
        "first_thin_id": 1, "last_thin_id": 3, "boot_id": claim::boot_id().unwrap(),
    })
}

#[test]
fn a_conversion_into_loop_files_has_no_record_outside_of_the_root() {
    let (_victim, pool) = another_root();
    let to_loop_files = [json!("direct"), kernel(&json!("loop-files"))];
    for writer in to_loop_files {
        let journal = begun(&writer, 3);
        for claim in [pool.claim(3, None), pool_claim("vg-other")] {
            let words = [
                "the target of the conversion was loop files",
                NOT_BELIEVED,
                "`rm ",
            ];
            refused(&pool, &journal, &claim, &words);
        }
    }
}

#[test]
fn no_record_is_believed_beside_a_journal_without_an_order() {
    let (_victim, pool) = another_root();
    let before = pool.digests();
    for verb in ["convert", "rollback"] {
        let (_root, ended) = run(verb, BEGUN, &pool.claim(3, None));
        ended.expect(1, &["claim.json", NOT_BELIEVED]);
        assert_eq!(before, pool.digests(), "{verb}");
    }
}

#[test]
fn a_converted_root_goes_back_without_the_record_that_it_cannot_have() {
    let (_victim, pool) = another_root();
    let before = pool.digests();
    let (tool, root) = (Tool::new(), small_root());
    let original = contents(&root.path());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    write_claim(&root.path(), &pool.claim(3, None));
    let converted = contents(&root.path());
    let ended = tool.run("rollback", &root.path(), &[]);
    ended.expect(1, &["claim.json", NOT_BELIEVED, "`rm "]);
    assert_same(&converted, &contents(&root.path()));
    // The way that is told.
    fs::remove_file(root.path().join(".aufs2dm/claim.json")).unwrap();
    tool.run("rollback", &root.path(), &[]).expect(0, &[]);
    assert_same(&original, &contents(&root.path()));
    assert_eq!(before, pool.digests());
}

#[test]
fn loop_files_of_another_root_are_not_taken_for_ours_though_the_journal_names_them() {
    let (_victim, pool) = another_root();
    let dir = scratch();
    let linked = Pool::below(&dir.path().canonicalize().unwrap());
    symlink(&pool.data, &linked.data).unwrap();
    symlink(&pool.metadata, &linked.metadata).unwrap();
    for named in [&pool, &linked] {
        let claim = named.claim(3, Some(&base_uuid(&pool)));
        let words = ["is a loop file of the Docker root", NOT_BELIEVED];
        refused(&pool, &begun(&to_devices(named), 3), &claim, &words);
    }
}

/// The pool's files, copied to where no root is.
fn copied(pool: &Pool, to: &Path) -> Pool {
    let copy = Pool::below(&to.canonicalize().unwrap());
    for (from, to) in [(&pool.data, &copy.data), (&pool.metadata, &copy.metadata)] {
        let mut from = File::open(from).unwrap();
        let len = from.metadata().unwrap().len().min(64 << 20);
        let whole = from.metadata().unwrap().len();
        let to = File::create(to).unwrap();
        std::io::copy(&mut std::io::Read::take(&mut from, len), &mut &to).unwrap();
        to.set_len(whole).unwrap();
    }
    copy
}

/// The UUID of the file system on the pool's first device.
fn base_uuid(pool: &Pool) -> String {
    let read = thin::read(&File::open(&pool.metadata).unwrap()).unwrap();
    let place = read.devices[0].mapping.get(0).unwrap().data_block << 16;
    let mut uuid = [0; 16];
    let data = File::open(&pool.data).unwrap();
    data.read_exact_at(&mut uuid, place + 1024 + 0x68).unwrap();
    uuid::Uuid::from_bytes(uuid).to_string()
}

#[test]
fn devices_that_the_journal_does_not_name_are_not_touched() {
    let (_victim, theirs) = another_root();
    let dirs = [(); 2].map(|()| scratch());
    let theirs = copied(&theirs, dirs[0].path());
    let ours = Pool::below(dirs[1].path());
    let journal = begun(&to_devices(&ours), 3);
    let words = ["but the target of the conversion was ", NOT_BELIEVED];
    refused(&theirs, &journal, &theirs.claim(3, None), &words);
    refused(&theirs, &journal, &pool_claim("vg-other"), &words);
    // One of the two.
    let mixed = Pool {
        data: ours.data.clone(),
        metadata: theirs.metadata.clone(),
    };
    fs::write(&mixed.data, "").unwrap();
    refused(&theirs, &journal, &mixed.claim(3, None), &words);
}

#[test]
fn a_pool_that_the_journal_does_not_name_is_not_touched() {
    let (_victim, pool) = another_root();
    let target = kernel(&json!({"thin-pool": {"path": "/dev/mapper/vg-ours"}}));
    let journal = begun(&target, 3);
    let words = [
        "but the target of the conversion was /dev/mapper/vg-ours",
        NOT_BELIEVED,
    ];
    refused(&pool, &journal, &pool_claim("vg-other"), &words);
    refused(&pool, &journal, &pool.claim(3, None), &words);
    let mut more = pool_claim("vg-ours");
    more["last_thin_id"] = 0xff_ffff.into();
    let words = [
        "the conversion planned the thin devices 1 to 3",
        NOT_BELIEVED,
    ];
    refused(&pool, &journal, &more, &words);
    let mut later = pool_claim("vg-ours");
    later["transaction_id"] = 7.into();
    refused(&pool, &journal, &later, &["transaction id", NOT_BELIEVED]);
}

#[test]
fn more_devices_than_were_planned_are_not_claimed() {
    let (_victim, pool) = another_root();
    let dir = scratch();
    let pool = copied(&pool, dir.path());
    let journal = begun(&to_devices(&pool), 2);
    let words = [
        "the conversion planned the thin devices 1 to 2",
        NOT_BELIEVED,
    ];
    refused(&pool, &journal, &pool.claim(3, None), &words);
}

/// The journal can be forged to fit the record: then the pool itself has to be what a run makes.
#[test]
fn a_pool_that_no_run_has_made_is_not_wiped_though_journal_and_record_agree() {
    let (_victim, pool) = another_root();
    let dir = scratch();
    let pool = copied(&pool, dir.path());
    let devices = thin::read(&File::open(&pool.metadata).unwrap()).unwrap();
    let nr = u32::try_from(devices.devices.len()).unwrap();
    let uuid = base_uuid(&pool);
    let other = uuid::Uuid::from_u128(7).to_string();
    for claim in [
        pool.claim(nr, None),
        pool.claim(nr, Some(&other)),
        pool.claim(nr, Some(&uuid)),
    ] {
        let journal = begun(&to_devices(&pool), nr);
        refused(&pool, &journal, &claim, &["cannot be removed"]);
    }
}

const BLOCK: u64 = 64 << 10;

/// A pool as a run leaves it that was killed: so many devices, made in one transaction, with the file system of the base device.
fn made_by_a_run(directory: &TempDir, uuid: uuid::Uuid, devices: u32) -> Pool {
    let files = Pool::below(&directory.path().canonicalize().unwrap());
    let base = Mapping::new().with(&[(0, 3), (1, 7)], 0);
    let device = |number: u32| thin::Device {
        id: ThinId::new(number).unwrap(),
        mapping: base.clone(),
        transaction_id: 0,
        creation_time: number - 1,
        snapshotted_time: devices - 1,
    };
    let pool = thin::Pool {
        data_block_size: Sectors(BLOCK / 512),
        nr_data_blocks: DataBlocks(64),
        nr_metadata_blocks: MetaBlocks(1024),
        transaction_id: 0,
        time: devices - 1,
        devices: (1..=devices).map(device).collect(),
    };
    let data = File::create(&files.data).unwrap();
    data.set_len(64 * BLOCK).unwrap();
    let place = 3 * BLOCK + 1024;
    data.write_all_at(&[0x53, 0xef], place + 0x38).unwrap();
    data.write_all_at(uuid.as_bytes(), place + 0x68).unwrap();
    let metadata = File::create(&files.metadata).unwrap();
    metadata.set_len(4 << 20).unwrap();
    let mut sink = |first: u64, bytes: &[u8]| metadata.write_all_at(bytes, first * 4096);
    let superblock = pool.encode(&mut sink).unwrap();
    metadata.write_all_at(&superblock, 0).unwrap();
    files
}

#[test]
fn what_a_killed_run_made_is_taken_back_and_only_by_its_own_record() {
    let uuid = uuid::Uuid::from_u128(5);
    let text = uuid.to_string();
    let other = uuid::Uuid::from_u128(6).to_string();
    let dir = scratch();
    let pool = made_by_a_run(&dir, uuid, 2);
    let journal = begun(&to_devices(&pool), 3);
    let words = ["another pool is there now"];
    refused(&pool, &journal, &pool.claim(3, Some(&other)), &words);
    // Without a base device a run has made no other.
    refused(&pool, &journal, &pool.claim(3, None), &["made at most one"]);
    // Another file by now.
    let mut elsewhere = pool.claim(3, Some(&text));
    elsewhere["data"]["identity"]["file"]["inode"] = 1.into();
    let words = ["it is a different device or file now"];
    refused(&pool, &journal, &elsewhere, &words);
    // A file that is something else's too.
    let second = dir.path().join("second");
    fs::hard_link(&pool.metadata, &second).unwrap();
    let claim = pool.claim(3, Some(&text));
    refused(&pool, &journal, &claim, &["it has 2 hard links"]);
    fs::remove_file(second).unwrap();
    let (root, ended) = run("rollback", &journal, &claim);
    ended.expect(0, &[]);
    assert!(pool.is_wiped());
    assert!(!root.path().join(".aufs2dm").exists());
}

#[test]
fn a_record_without_a_base_device_takes_back_what_was_made_since_the_system_was_booted() {
    let dir = scratch();
    let pool = made_by_a_run(&dir, uuid::Uuid::from_u128(5), 1);
    let journal = begun(&to_devices(&pool), 3);
    let mut before_the_boot = pool.claim(3, None);
    before_the_boot["boot_id"] = "another".into();
    let words = ["the system has been rebooted since", "dd if=/dev/zero of="];
    refused(&pool, &journal, &before_the_boot, &words);
    let (_root, ended) = run("rollback", &journal, &pool.claim(3, None));
    ended.expect(0, &[]);
    assert!(pool.is_wiped());
}
