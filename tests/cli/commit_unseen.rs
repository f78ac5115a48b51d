//! What no full verification of this root has seen keeps `commit`: what is written after it behind names, sizes and times of
//! modification, another pool, what an `aufs` that is a link leads to, a root whose aufs side cannot be read as one.

use std::fs::{self, File, FileTimes};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, umount2};

use super::commit_conditions::Ready;
use super::lost_on_devices::notes_of;
use super::removal::{Mounted, Namespace};
use super::support::unmounted::wait_until_nobody_sees;

/// Puts a copy in the place of what is there, with all that a copy can keep.
fn replace_by_copy(path: &Path) {
    let copy = path.with_extension("copy");
    let status = Command::new("cp")
        .args(["-a", "--sparse=always"])
        .args([path, &copy])
        .status();
    assert!(status.unwrap().success());
    let old = path.with_extension("old");
    fs::rename(path, &old).unwrap();
    fs::rename(&copy, path).unwrap();
    if old.is_dir() {
        fs::remove_dir_all(old).unwrap();
    } else {
        fs::remove_file(old).unwrap();
    }
}

/// The one file of that name in a branch of aufs.
pub(crate) fn in_aufs(ready: &Ready, inner: &str) -> PathBuf {
    let branches = fs::read_dir(ready.path("aufs/diff")).unwrap();
    let mut paths = branches.map(|branch| branch.unwrap().path().join(inner));
    paths.find(|path| path.is_file()).unwrap()
}

#[test]
fn a_pool_file_that_a_copy_replaced_must_be_verified_first() {
    for name in ["data", "metadata"] {
        let ready = Ready::new();
        replace_by_copy(&ready.path("devicemapper/devicemapper").join(name));
        ready.refused(1, &["the pool's files", "verify --full"]);
        ready.run("verify", &["--full"]).expect(0, &[]);
        ready.committed(&[]);
    }
}

#[test]
fn a_branch_that_a_copy_replaced_must_be_verified_first() {
    let ready = Ready::new();
    let branch = in_aufs(&ready, "data").parent().unwrap().to_owned();
    replace_by_copy(&branch);
    ready.refused(1, &["replaced by a copy", "verify --full"]);
    ready.run("verify", &["--full"]).expect(0, &[]);
    ready.committed(&[]);
}

/// Writes that names, sizes and times of modification hide.
pub(crate) const HIDDEN_WRITES: [fn(&Path); 2] = [
    |path| xattr::set(path, "user.note", b"new").unwrap(),
    |path| {
        let modified = fs::metadata(path).unwrap().modified().unwrap();
        fs::write(path, [9; 9000]).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        let times = FileTimes::new().set_modified(modified);
        file.set_times(times).unwrap();
    },
];

#[test]
fn an_xattr_or_bytes_with_their_time_set_back_must_be_verified_first() {
    for write in HIDDEN_WRITES {
        let ready = Ready::new();
        write(&in_aufs(&ready, "data"));
        ready.refused(1, &["the aufs side was written to", "verify --full"]);
        ready.run("verify", &["--full"]).expect(3, &[]);
        ready.refused(1, &[]);
    }
}

#[test]
fn what_was_written_to_aufs_behind_its_times_keeps_the_devices_from_rollback() {
    for write in HIDDEN_WRITES {
        let ready = Ready::new();
        write(&in_aufs(&ready, "data"));
        let words = ["written to", "verify --full", "rollback --onto-damaged"];
        ready.run("rollback", &[]).expect(1, &words);
        assert!(ready.path("devicemapper/metadata/base").exists());
        ready.run("rollback", &["--onto-damaged"]).expect(0, &[]);
    }
    // What was written and is right all the same is known by the next full verification.
    let ready = Ready::new();
    let branch = in_aufs(&ready, "data").parent().unwrap().to_owned();
    replace_by_copy(&branch);
    ready
        .run("rollback", &[])
        .expect(1, &["replaced by a copy"]);
    ready.run("verify", &["--full"]).expect(0, &[]);
    ready.run("rollback", &[]).expect(0, &[]);
}

#[test]
fn a_read_of_either_side_is_no_write() {
    let ready = Ready::new();
    fs::read(in_aufs(&ready, "data")).unwrap();
    let metadata = ready.path("devicemapper/devicemapper/metadata");
    let read = File::open(metadata).unwrap().read(&mut [0; 4096]);
    assert_eq!(read.unwrap(), 4096);
    ready.committed(&[]);
}

#[test]
fn a_verification_of_another_pool_is_no_proof_of_this_one() {
    let ready = Ready::new();
    let own = ready.path("devicemapper/devicemapper");
    let other = ready.tool.host_root().join("other");
    let copied = Command::new("cp")
        .args(["-a", "--sparse=always"])
        .args([&own, &other])
        .status();
    assert!(copied.unwrap().success());
    // What the proof has seen is there no more.
    File::options()
        .append(true)
        .open(own.join("data"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    ready.refused(1, &["the pool's files"]);
    let [data, metadata] = ["data", "metadata"].map(|name| other.join(name));
    let options = [
        "--full",
        "--data-device",
        data.to_str().unwrap(),
        "--metadata-device",
        metadata.to_str().unwrap(),
    ];
    let verified = ready.run("verify", &options);
    verified.expect(0, &[]);
    assert!(
        verified.out.contains("it read a different pool"),
        "{verified:?}"
    );
    ready.refused(1, &["the pool's files"]);
}

#[test]
fn where_aufs_is_a_link_its_target_is_named_and_only_a_word_of_its_own_empties_it() {
    let root = Ready::root();
    let aufs = root.path().join("aufs");
    fs::rename(&aufs, root.path().join("../elsewhere")).unwrap();
    symlink("../elsewhere", &aufs).unwrap();
    let ready = Ready::of(root);
    let elsewhere = ready.path("../elsewhere").canonicalize().unwrap();
    let words = [elsewhere.to_str().unwrap(), "commit --drop-linked-aufs"];
    ready.refused(1, &words);
    assert!(elsewhere.join("diff").exists());
    let ended = ready.run("commit", &["--yes", "--drop-linked-aufs"]);
    ended.expect(0, &[]);
    let words = format!("what the driver has in {}", elsewhere.display());
    assert!(ended.out.contains(&words), "{ended:?}");
    assert!(elsewhere.exists() && !elsewhere.join("diff").exists());
}

/// A container that belongs to aufs still, on a root with an aufs side that cannot be opened.
#[test]
fn an_aufs_side_without_its_lists_is_still_needed_by_a_container_of_aufs() {
    let ready = Ready::new();
    let containers = fs::read_dir(ready.path("containers")).unwrap();
    let mut configs = containers.map(|entry| entry.unwrap().path().join("config.v2.json"));
    let config = configs.find(|path| path.exists()).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"devicemapper\"", "\"aufs\"")).unwrap();
    fs::rename(ready.path("aufs/layers"), ready.path("layers")).unwrap();
    let ended = ready.run("commit", &["--yes", "--drop-aufs-changes"]);
    ended.expect(1, &["web", "aufs"]);
    assert!(ready.path("aufs/diff").exists());
}

#[test]
fn a_daemon_at_work_is_seen_on_a_root_without_a_whole_aufs_side() {
    let ready = Ready::new();
    fs::rename(ready.path("aufs/layers"), ready.path("layers")).unwrap();
    fs::create_dir_all(ready.path("volumes")).unwrap();
    let database = File::create(ready.path("volumes/metadata.db")).unwrap();
    let _held = Flock::lock(database, FlockArg::LockExclusive).unwrap();
    for (verb, options) in [
        ("verify", &["--full"][..]),
        ("commit", &["--yes", "--drop-aufs-changes"]),
    ] {
        ready.run(verb, options).expect(1, &["volumes/metadata.db"]);
    }
    assert!(ready.path("aufs/diff").exists());
}

#[test]
fn a_container_whose_record_is_gone_from_the_image_store_is_wrong() {
    let ready = Ready::new();
    let mounts = ready.path("image/devicemapper/layerdb/mounts");
    let mut records = fs::read_dir(&mounts).unwrap();
    let record = records.next().unwrap().unwrap().path();
    fs::remove_dir_all(&record).unwrap();
    let name = record.file_name().unwrap().to_str().unwrap();
    let verified = ready.run("verify", &["--full"]);
    verified.expect(3, &[]);
    let words = format!("container {name}: image/devicemapper/layerdb/mounts has no record");
    assert!(verified.out.contains(&words), "{verified:?}");
    ready.refused(1, &["verify --full"]);
}

/// A container's directory, whose config the conversion replaced.
fn container(ready: &Ready) -> PathBuf {
    let containers = fs::read_dir(ready.path("containers")).unwrap();
    let mut found = containers.map(|entry| entry.unwrap().path());
    found
        .find(|path| path.join("config.v2.json").exists())
        .unwrap()
}

#[test]
fn a_container_that_lost_its_config_alone_is_wrong_and_keeps_the_original() {
    let ready = Ready::new();
    let config = container(&ready).join("config.v2.json");
    fs::remove_file(&config).unwrap();
    let verified = ready.run("verify", &["--full"]);
    verified.expect(3, &[]);
    let words = format!("{}: is missing", config.display());
    assert!(verified.out.contains(&words), "{verified:?}");
    ready.refused(1, &["verify --full"]);
}

#[test]
fn a_config_of_another_container_is_wrong() {
    let ready = Ready::new();
    let container = container(&ready);
    let config = container.join("config.v2.json");
    let id = container.file_name().unwrap().to_str().unwrap();
    let text = fs::read_to_string(&config).unwrap();
    for other in [&*"e".repeat(64), ""] {
        fs::write(&config, text.replace(id, other)).unwrap();
        let verified = ready.run("verify", &["--full"]);
        verified.expect(3, &[]);
        let words = format!("is the config of another container, {other}");
        assert!(verified.out.contains(&words), "{verified:?}");
    }
    ready.refused(1, &["verify --full"]);
}

#[test]
fn a_container_that_lost_its_directory_alone_is_wrong_until_its_record_goes_too() {
    let ready = Ready::new();
    let container = container(&ready);
    fs::remove_dir_all(&container).unwrap();
    let verified = ready.run("verify", &["--full"]);
    verified.expect(3, &[]);
    let mounts = ready.path("image/devicemapper/layerdb/mounts");
    let record = mounts.join(container.file_name().unwrap());
    let next = format!("rm -r {}", record.display());
    let mut commands = verified.out.split('`');
    let next = commands.find(|text| text.starts_with(&next));
    let next = next.unwrap_or_else(|| panic!("{verified:?}"));
    ready.refused(1, &["verify --full"]);
    let done = Command::new("sh").args(["-c", next]).status().unwrap();
    assert!(done.success(), "{next}");
    ready.run("verify", &["--full"]).expect(0, &[]);
    ready.committed(&[]);
}

#[test]
fn commit_names_what_aufs_alone_has_still() {
    let ready = Ready::new();
    let container = container(&ready);
    for note in notes_of(&ready, container.file_name().unwrap().as_ref()) {
        fs::remove_file(note).unwrap();
    }
    let mounts = ready.path("image/devicemapper/layerdb/mounts");
    fs::remove_dir_all(mounts.join(container.file_name().unwrap())).unwrap();
    fs::remove_dir_all(&container).unwrap();
    let names = ready.path("image/devicemapper/repositories.json");
    fs::write(names, "{\"Repositories\":{}}").unwrap();
    ready.run("verify", &["--full"]).expect(0, &[]);
    let ended = ready.run("commit", &["--yes"]);
    ended.expect(
        0,
        &[
            "the aufs side has the last copy",
            "containers removed (",
            "image names removed (",
        ],
    );
}

#[test]
fn an_aufs_on_a_disk_that_is_mounted_elsewhere_too_goes_by_its_own_word_alone() {
    let root = Ready::root();
    let (old, disk) = (root.path().join("old"), root.path().join("disk"));
    let aufs = root.path().join("aufs");
    fs::rename(&aufs, &old).unwrap();
    let other = Mounted::tmpfs(&disk);
    fs::remove_file(disk.join("precious")).unwrap();
    let mut copy = Command::new("cp");
    let status = copy.arg("-a").args([&old.join("."), &disk]).status();
    assert!(status.unwrap().success());
    fs::remove_dir_all(&old).unwrap();
    fs::create_dir(&aufs).unwrap();
    let mounted = Mounted::bind(&disk, &aufs);
    let ready = Ready::of(root);
    let words = ["disk", "also mounted on", "commit --drop-linked-aufs"];
    ready.refused(1, &words);
    // Of its own namespace another process keeps it.
    let namespace = Namespace::with_bind(&ready.path("containers"), &ready.path("containers"));
    umount2(&disk, MntFlags::MNT_DETACH).unwrap();
    std::mem::forget(other);
    let words = [
        "disk",
        "also mounted on",
        ", in the mount namespace of process",
    ];
    ready.refused(1, &words);
    drop(namespace);
    wait_until_nobody_sees(&disk);
    // Nobody else has it any more.
    ready.run("commit", &["--yes"]).expect(0, &[]);
    drop(mounted);
}

#[test]
fn a_branch_that_is_a_link_goes_and_what_it_leads_to_stays() {
    let ready = Ready::new();
    let branch = in_aufs(&ready, "data").parent().unwrap().to_owned();
    let moved = ready.path("moved");
    fs::rename(&branch, &moved).unwrap();
    symlink("../../moved", &branch).unwrap();
    ready.refused(1, &["1 missing", "commit --drop-aufs-changes"]);
    ready.committed(&["--drop-aufs-changes"]);
    assert!(moved.join("data").exists());
}

#[test]
fn a_pool_file_behind_a_link_gets_no_verdict_and_the_command_that_ends_that() {
    for name in ["data", "metadata"] {
        let ready = Ready::new();
        let file = ready.path("devicemapper/devicemapper").join(name);
        let elsewhere = ready.path(name);
        fs::rename(&file, &elsewhere).unwrap();
        symlink(&elsewhere, &file).unwrap();
        let journal = fs::read(ready.path(".aufs2dm/journal")).unwrap();
        let verified = ready.run("verify", &["--full"]);
        verified.expect(1, &["is a symbolic link", "nothing was verified"]);
        ready.refused(1, &["is a symbolic link"]);
        assert!(fs::read(ready.path(".aufs2dm/journal")).unwrap() == journal);
        let command = verified.err.split('`').find(|part| part.starts_with("mv "));
        let done = Command::new("sh").args(["-c", command.unwrap()]).status();
        assert!(done.unwrap().success());
        ready.run("verify", &["--full"]).expect(0, &[]);
        ready.committed(&[]);
    }
}

#[test]
fn an_aufs_that_is_a_bind_mount_of_another_roots_goes_by_its_own_word_alone() {
    let root = Ready::root();
    let elsewhere = root.path().join("elsewhere");
    fs::rename(root.path().join("aufs"), &elsewhere).unwrap();
    fs::create_dir(root.path().join("aufs")).unwrap();
    let mounted = Mounted::bind(&elsewhere, &root.path().join("aufs"));
    let ready = Ready::of(root);
    ready.refused(
        1,
        &[
            "a mount of the directory",
            "elsewhere",
            "commit --drop-linked-aufs",
        ],
    );
    ready
        .run("commit", &["--yes", "--drop-linked-aufs"])
        .expect(0, &[]);
    assert!(!elsewhere.join("diff").exists());
    drop(mounted);
}

#[test]
fn a_devicemapper_side_that_leads_to_the_aufs_side_keeps_that() {
    let links: [(&str, &str); 3] = [
        ("image/devicemapper", "aufs"),
        ("image/devicemapper/layerdb", "../aufs/layerdb"),
        (
            "image/devicemapper/repositories.json",
            "../aufs/repositories.json",
        ),
    ];
    for (path, target) in links {
        let ready = Ready::new();
        fs::rename(ready.path(path), ready.path("kept")).unwrap();
        symlink(target, ready.path(path)).unwrap();
        ready.refused(1, &[]);
        ready.run("verify", &["--full"]);
        ready.refused(1, &[]);
        fs::remove_file(ready.path(path)).unwrap();
        fs::rename(ready.path("kept"), ready.path(path)).unwrap();
        ready.run("verify", &["--full"]).expect(0, &[]);
        ready.committed(&[]);
    }
}
