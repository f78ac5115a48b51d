//! What the devicemapper side lost without Docker: whatever Docker's own removal does not explain is wrong, and keeps the aufs side.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Whence, lseek64};
use serde_json::{Value, json};

use super::commit_conditions::Ready;
use super::support::root::AufsRoot;

/// The only thing in a directory.
fn only(path: &Path) -> PathBuf {
    let mut entries = fs::read_dir(path).unwrap();
    entries.next().unwrap().unwrap().path()
}

/// `verify --full` must name it with the command that brings it back, `commit` must refuse, and after that command both must pass.
#[track_caller]
fn comes_back(ready: &Ready, lost: &Path) {
    let verified = ready.run("verify", &["--full"]);
    verified.expect(3, &[]);
    let words = format!("{}: is missing", lost.display());
    let line = verified.out.lines().find(|line| line.contains(&words));
    let line = line.unwrap_or_else(|| panic!("{words}: {}", verified.out));
    let command = line.split('`').find(|part| part.starts_with("cp -a "));
    ready.refused(1, &["verify --full"]);
    let done = Command::new("sh").args(["-c", command.unwrap()]).status();
    assert!(done.unwrap().success(), "{line}");
    ready.run("verify", &["--full"]).expect(0, &[]);
    ready.committed(&[]);
}

/// The record of the layer that no other one lies on.
pub(crate) fn record_of_the_top_layer(ready: &Ready) -> PathBuf {
    let records = fs::read_dir(ready.path("image/devicemapper/layerdb/sha256")).unwrap();
    let mut records = records.map(|record| record.unwrap().path());
    records
        .find(|record| record.join("parent").exists())
        .unwrap()
}

/// A root with an image that no container needs.
fn with_an_image_alone() -> Ready {
    let root = AufsRoot::new()
        .layer("base", |l| l.file("etc/motd", "hello"))
        .layer("app", |l| l.file("app", [7; 9000]))
        .image("lab/app:1", "app");
    Ready::of(root)
}

#[test]
fn an_image_that_lost_its_top_layer_alone_is_wrong() {
    let ready = with_an_image_alone();
    let config = only(&ready.path("image/devicemapper/imagedb/content/sha256"));
    assert!(config.is_file());
    let top = record_of_the_top_layer(&ready);
    let cache = fs::read_to_string(top.join("cache-id")).unwrap();
    fs::remove_dir_all(&top).unwrap();
    assert!(
        ready
            .path("devicemapper/metadata")
            .join(cache.trim())
            .exists()
    );
    comes_back(&ready, &top);
}

#[test]
fn an_image_that_loses_its_layer_after_commit_is_wrong_and_one_that_had_none_before_is_not() {
    let lost = "is missing, so Docker does not show it";
    let ready = with_an_image_alone();
    ready.committed(&[]);
    ready.run("verify", &["--full"]).expect(0, &[]);
    fs::remove_dir_all(record_of_the_top_layer(&ready)).unwrap();
    let verified = ready.run("verify", &["--full"]);
    verified.expect(3, &[]);
    assert_eq!(verified.out.matches(lost).count(), 1, "{verified:?}");
    // What the record of the conversion tells of an image was so before.
    let image = only(&ready.path("image/devicemapper/imagedb/content/sha256"));
    let path = ready.path(".aufs2dm.json");
    let mut told: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(told["images_without_layers"], json!([]));
    let image = image.file_name().unwrap().to_str().unwrap();
    told["images_without_layers"] = json!([format!("sha256:{image}")]);
    fs::write(&path, told.to_string()).unwrap();
    let verified = ready.run("verify", &["--full"]);
    verified.expect(0, &[]);
    assert_eq!(verified.out.matches(lost).count(), 1, "{verified:?}");
}

#[test]
fn an_image_that_lost_its_config_alone_is_wrong_whether_it_has_a_name_or_not() {
    for has_name in [true, false] {
        let ready = with_an_image_alone();
        let config = only(&ready.path("image/devicemapper/imagedb/content/sha256"));
        fs::remove_file(&config).unwrap();
        if !has_name {
            let names = ready.path("image/devicemapper/repositories.json");
            fs::write(names, "{\"Repositories\":{}}").unwrap();
            comes_back(&ready, &config);
            continue;
        }
        ready.run("verify", &["--full"]).expect(3, &[]);
        ready.refused(1, &["verify --full"]);
    }
}

#[test]
fn an_image_that_docker_removed_is_no_damage_and_commit_names_it() {
    let ready = with_an_image_alone();
    let store = ready.path("image/devicemapper");
    let config = only(&store.join("imagedb/content/sha256"));
    fs::remove_file(&config).unwrap();
    fs::remove_dir_all(store.join("layerdb/sha256")).unwrap();
    fs::create_dir(store.join("layerdb/sha256")).unwrap();
    fs::write(store.join("repositories.json"), "{\"Repositories\":{}}").unwrap();
    ready.run("verify", &["--full"]).expect(0, &[]);
    let ended = ready.run("commit", &["--yes"]);
    let id = config.file_name().unwrap().to_str().unwrap();
    let words = format!("1 images removed ({})", &id[..12]);
    ended.expect(0, &["the aufs side has the last copy", &words]);
}

#[test]
fn a_config_that_dockers_decoder_reads_otherwise_is_wrong() {
    let ready = Ready::of(with_a_whole_config());
    let config = only(&ready.path("containers")).join("config.v2.json");
    let good = fs::read_to_string(&config).unwrap();
    let with = |at: &str, value: Value| {
        let mut all: Value = serde_json::from_str(&good).unwrap();
        match at.split_once('/') {
            Some((part, name)) => all[part][name] = value,
            None => all[at] = value,
        }
        all.to_string()
    };
    for (text, why) in [
        (with("O\u{17f}", json!("linux")), "a member \"O"),
        (
            with("MountLabel", json!(5)),
            "MountLabel that is not a string",
        ),
        (
            with("Config/ExposedPorts", json!([])),
            "ExposedPorts that is not an object",
        ),
        (
            with("State/StartedAt", json!("")),
            "StartedAt that is not a time",
        ),
    ] {
        fs::write(&config, text).unwrap();
        let verified = ready.run("verify", &["--full"]);
        verified.expect(3, &[]);
        assert!(verified.out.contains(why), "{why}: {}", verified.out);
        ready.refused(1, &[]);
    }
    fs::write(&config, with("MountLabel", Value::Null)).unwrap();
    ready.run("verify", &["--full"]).expect(0, &[]);
}

#[test]
fn a_config_that_docker_cannot_have_written_is_wrong() {
    const NOT_DOCKERS: &str = "is not what Docker writes there";
    let ready = Ready::of(with_a_whole_config());
    let config = only(&ready.path("containers")).join("config.v2.json");
    let good = fs::read_to_string(&config).unwrap();
    let without = |member: &str, value: Value| {
        let mut all: Value = serde_json::from_str(&good).unwrap();
        all[member] = value;
        all.to_string()
    };
    for (text, why) in [
        ("{\"Driver\":\"devicemapper\"}".to_owned(), NOT_DOCKERS),
        ("{".to_owned(), NOT_DOCKERS),
        (String::new(), NOT_DOCKERS),
        (without("Config", Value::Null), NOT_DOCKERS),
        (without("State", Value::Null), NOT_DOCKERS),
        (without("Name", json!("")), "has no name"),
        (without("Image", json!("sha256:0")), "a different Image"),
        (without("Path", json!("/bin/other")), "a different Path"),
        (without("Config", json!({})), "a different setting Cmd"),
        (without("NetworkSettings", Value::Null), NOT_DOCKERS),
        (without("StreamConfig", json!([])), NOT_DOCKERS),
        (without("Driver", json!("")), "names the driver"),
        (without("MountPoints", json!({})), "mount point /data"),
        (
            without("MountPoints", json!({"/data": {"Name": "other"}})),
            "mount point /data",
        ),
        (
            good.replacen('{', "{\"driver\":\"devicemapper\",", 1),
            "a member \"driver\"",
        ),
    ] {
        fs::write(&config, text).unwrap();
        let verified = ready.run("verify", &["--full"]);
        verified.expect(3, &[]);
        let line = format!("{}: ", config.display());
        let told = |line_of: &&str| line_of.starts_with(&line) && line_of.contains(why);
        assert!(
            verified.out.lines().any(|line| told(&line)),
            "{why}: {}",
            verified.out
        );
        ready.refused(1, &[]);
    }
    // The command that is printed brings it back.
    let verified = ready.run("verify", &["--full"]);
    let command = verified
        .out
        .split('`')
        .find(|part| part.starts_with("sed "));
    let done = Command::new("sh").args(["-c", command.unwrap()]).status();
    assert!(done.unwrap().success(), "{command:?}");
    assert_eq!(fs::read_to_string(&config).unwrap(), good);
    ready.run("verify", &["--full"]).expect(0, &[]);
    // What Docker does change.
    fs::write(&config, without("Name", json!("/renamed"))).unwrap();
    ready.run("verify", &["--full"]).expect(0, &[]);
    ready.committed(&[]);
}

#[test]
fn a_container_that_got_the_name_of_another_is_wrong() {
    let root = Ready::root().container("other", ("lab/app:1", "app"), |l| l.dir("own"));
    let ready = Ready::of(root);
    let containers = fs::read_dir(ready.path("containers")).unwrap();
    let configs = containers.map(|entry| entry.unwrap().path().join("config.v2.json"));
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap();
    let is_other = |path: &PathBuf| read(path).contains("/other");
    let config = configs.into_iter().find(is_other).unwrap();
    let good = read(&config);
    let named = |name: &str| {
        let text = good.replace("\"/other\"", &format!("\"{name}\""));
        fs::write(&config, text).unwrap();
    };
    named("/web");
    let verified = ready.run("verify", &["--full"]);
    verified.expect(3, &[]);
    let words = "has the name /web, which container";
    assert!(verified.out.contains(words), "{}", verified.out);
    ready.refused(1, &[]);
    named("/free");
    ready.run("verify", &["--full"]).expect(0, &[]);
    ready.committed(&[]);
}

#[test]
fn a_file_of_devices_that_docker_would_take_over_is_wrong() {
    let ready = Ready::new();
    let old = ready.path("devicemapper/devicemapper/json");
    fs::write(&old, "{\"Devices\":{}}").unwrap();
    let verified = ready.run("verify", &["--full"]);
    verified.expect(3, &[]);
    let words = "takes the devices in this old file";
    assert!(verified.out.contains(words), "{}", verified.out);
    ready.refused(1, &["verify --full"]);
    fs::remove_file(&old).unwrap();
    ready.run("verify", &["--full"]).expect(0, &[]);
}

/// A root whose container's config has what Docker writes.
fn with_a_whole_config() -> AufsRoot {
    let root = Ready::root();
    let config = only(&root.path().join("containers")).join("config.v2.json");
    let mut all: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    all["Created"] = json!("2016-01-02T03:04:05.678Z");
    all["MountPoints"] = json!({"/data": {"Destination": "/data", "Name": "one"}});
    fs::write(&config, all.to_string()).unwrap();
    root
}

#[test]
fn a_note_that_makes_a_device_smaller_than_its_file_system_is_wrong() {
    let ready = Ready::new();
    let notes = ready.path("devicemapper/metadata");
    let mut files = fs::read_dir(&notes)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let note = files
        .find(|path| path.file_name().unwrap().len() == 64)
        .unwrap();
    let text = fs::read_to_string(&note).unwrap();
    fs::write(&note, text.replace("10737418240", "1073741824")).unwrap();
    let verified = ready.run("verify", &["--full"]);
    verified.expect(3, &[]);
    let words =
        "its file system has 10.0 GiB, but devicemapper/metadata gives it a size of 1.0 GiB";
    assert!(verified.out.contains(words), "{}", verified.out);
    ready.refused(1, &["verify --full"]);
}

/// Marks every ext4 in the pool as one that was not unmounted, or that was.
pub(crate) fn mark_not_unmounted(data: &Path, is_so: bool) {
    edit_superblocks(data, &|superblock| {
        superblock[96] = superblock[96] & !4 | if is_so { 4 } else { 0 };
    });
}

/// Changes the superblock of each ext4 in a pool's data, and their checksums with them; the time of the file stays.
pub(crate) fn edit_superblocks(data: &Path, edit: &dyn Fn(&mut [u8; 1024])) {
    let file = File::options().read(true).write(true).open(data).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    let mut marked = 0;
    let mut at = 0;
    while let Ok(found) = lseek64(&file, at, Whence::SeekData) {
        // Thin blocks have 64 KiB.
        let block = found.cast_unsigned() & !0xffff;
        at = block.cast_signed() + 0x1_0000;
        let mut superblock = [0; 1024];
        file.read_exact_at(&mut superblock, block + 1024).unwrap();
        if superblock[56..58] != [0x53, 0xef] {
            continue;
        }
        edit(&mut superblock);
        if superblock[101] & 4 != 0 {
            let sum = !crc32c::crc32c(&superblock[..1020]);
            superblock[1020..].copy_from_slice(&sum.to_le_bytes());
        }
        file.write_all_at(&superblock, block + 1024).unwrap();
        marked += 1;
    }
    assert!(marked > 0);
    file.set_modified(modified).unwrap();
}

#[test]
fn a_file_system_that_was_not_unmounted_is_not_verified() {
    let ready = Ready::new();
    mark_not_unmounted(&ready.path("devicemapper/devicemapper/data"), true);
    let verified = ready.run("verify", &["--full"]);
    verified.expect(1, &[]);
    for words in ["its file system was not unmounted", "NOT VERIFIED"] {
        assert!(verified.out.contains(words), "{words}: {}", verified.out);
    }
    ready.refused(1, &["verify --full"]);
}

#[test]
fn names_of_images_that_docker_cannot_have_written_are_wrong_and_named() {
    for text in ["{}", "{\"Repositories\":null}"] {
        let ready = Ready::new();
        let names = ready.path("image/devicemapper/repositories.json");
        fs::write(&names, text).unwrap();
        let verified = ready.run("verify", &["--full"]);
        verified.expect(3, &[]);
        let words = format!("{}: is not what Docker writes there", names.display());
        assert!(verified.out.contains(&words), "{words}: {}", verified.out);
        ready.refused(1, &["verify --full"]);
    }
}

#[test]
fn what_is_gone_from_the_devicemapper_side_is_nothing_that_going_back_loses() {
    for part in ["image/devicemapper", "image/devicemapper/repositories.json"] {
        let ready = Ready::new();
        let path = ready.path(part);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        ready.run("rollback", &[]).expect(0, &[]);
        assert!(ready.path("image/aufs").is_dir() && !ready.path("devicemapper").exists());
    }
}

#[test]
fn without_a_part_of_the_devicemapper_side_every_command_names_the_way_back() {
    for part in ["devicemapper", "image/devicemapper"] {
        let ready = Ready::new();
        fs::remove_dir_all(ready.path(part)).unwrap();
        let words = format!("{}: is missing", ready.path(part).display());
        for (verb, options) in [("verify", &["--full"][..]), ("commit", &["--yes"])] {
            let all = [&*words, "`aufs2dm rollback --root"];
            ready.run(verb, options).expect(1, &all);
        }
        ready.run("rollback", &[]).expect(0, &[]);
        assert!(ready.path("aufs/diff").is_dir() && ready.path("image/aufs").is_dir());
    }
}

#[test]
fn where_going_back_loses_something_the_advice_after_damage_says_what() {
    let ready = Ready::new();
    let data = File::options()
        .read(true)
        .write(true)
        .open(ready.path("devicemapper/devicemapper/data"))
        .unwrap();
    let (mut at, mut block) = (0, [0; 4096]);
    while block != [7; 4096] {
        at = lseek64(&data, at, Whence::SeekData).expect("the file is in the pool");
        data.read_exact_at(&mut block, at.cast_unsigned()).unwrap();
        at += 4096;
    }
    data.write_all_at(&[8; 100], at.cast_unsigned() - 4096)
        .unwrap();
    let verified = ready.run("verify", &["--full"]);
    verified.expect(3, &[]);
    let last = verified.out.lines().last().unwrap();
    for words in [
        "(the pool's data was written to)",
        "`aufs2dm rollback --force",
    ] {
        assert!(last.contains(words), "{words}: {last}");
    }
    let status = ready.run("status", &[]);
    assert!(status.out.contains("rollback --force"), "{status:?}");
    ready.run("rollback", &["--force"]).expect(0, &[]);
}

#[test]
fn the_file_of_names_that_is_gone_after_commit_is_wrong_where_there_was_one() {
    let ready = with_an_image_alone();
    ready.committed(&[]);
    let names = ready.path("image/devicemapper/repositories.json");
    let text = fs::read(&names).unwrap();
    fs::remove_file(&names).unwrap();
    let verified = ready.run("verify", &["--full"]);
    verified.expect(3, &[]);
    let words = format!("{}: is missing", names.display());
    assert!(verified.out.contains(&words), "{verified:?}");
    fs::write(&names, "{}").unwrap();
    let verified = ready.run("verify", &["--full"]);
    let words = format!("{}: is not what Docker writes there", names.display());
    assert!(
        verified.code == Some(3) && verified.out.contains(&words),
        "{verified:?}"
    );
    fs::write(&names, text).unwrap();
    ready.run("verify", &["--full"]).expect(0, &[]);
}

#[test]
fn a_transaction_by_which_docker_would_delete_the_base_device_is_wrong() {
    for hash in ["", "base", "other"] {
        let ready = Ready::new();
        let path = ready.path("devicemapper/metadata/transaction-metadata");
        let transaction = json!({"open_transaction_id": 9999, "device_hash": hash, "device_id": 1});
        let good = fs::read(&path).ok();
        fs::write(&path, transaction.to_string()).unwrap();
        ready.run("verify", &["--full"]).expect(3, &[]);
        ready.refused(1, &["verify --full"]);
        if let Some(good) = good {
            fs::write(&path, good).unwrap();
        }
    }
}

#[test]
fn what_keeps_docker_from_a_container_after_commit_is_told() {
    let ready = Ready::new();
    ready.run("verify", &["--full"]).expect(0, &[]);
    ready.committed(&[]);
    let directory = only(&ready.path("containers"));
    let config = directory.join("config.v2.json");
    let good = fs::read_to_string(&config).unwrap();
    let id = directory.file_name().unwrap().to_str().unwrap();
    let other = good.replace(id, &"0".repeat(64));
    for (text, words) in [
        (
            other.as_str(),
            "its config.v2.json is that of container 0000",
        ),
        ("{}", "its config.v2.json names the driver \"\""),
    ] {
        fs::write(&config, text).unwrap();
        let verified = ready.run("verify", &["--full"]);
        verified.expect(3, &[]);
        assert!(verified.out.contains(words), "{words}: {}", verified.out);
    }
    // A Docker that is killed while it makes a container leaves this, too, so it is no damage.
    let words = format!("container {id}: has layers but no config.v2.json");
    fs::remove_file(&config).unwrap();
    for _ in 0..2 {
        let verified = ready.run("verify", &["--full"]);
        verified.expect(0, &[]);
        assert!(verified.out.contains(&words), "{words}: {}", verified.out);
        fs::remove_dir_all(&directory).unwrap_or_default();
    }
}

/// The driver's files of a container's devices.
pub(crate) fn notes_of(ready: &Ready, container: &Path) -> Vec<PathBuf> {
    let record = ready.path("image/aufs/layerdb/mounts").join(container);
    let layer = |file: &str| fs::read_to_string(record.join(file)).unwrap();
    ["mount-id", "init-id"]
        .map(|file| ready.path("devicemapper/metadata").join(layer(file)))
        .to_vec()
}

#[test]
fn a_container_that_lost_its_directory_alone_keeps_the_last_copy_of_its_config() {
    for as_docker in [false, true] {
        let ready = Ready::new();
        let directory = only(&ready.path("containers"));
        let id = directory.file_name().unwrap();
        let elsewhere = ready.path("elsewhere");
        fs::rename(&directory, &elsewhere).unwrap();
        let words = ["is missing, and the container is still in the image store"];
        ready.run("rollback", &[]).expect(1, &words);
        let kept = ready.path(".aufs2dm/originals/containers").join(id);
        assert!(kept.join("config.v2.json").exists());
        if as_docker {
            for note in notes_of(&ready, id.as_ref()) {
                fs::remove_file(note).unwrap();
            }
            let record = ready.path("image/devicemapper/layerdb/mounts").join(id);
            fs::remove_dir_all(record).unwrap();
        } else {
            fs::rename(&elsewhere, &directory).unwrap();
        }
        ready
            .run("rollback", &["--force"][..usize::from(as_docker)])
            .expect(0, &[]);
        assert_eq!(directory.join("config.v2.json").exists(), !as_docker);
    }
}

#[test]
fn a_container_of_which_only_its_devices_are_left_was_not_removed_by_docker() {
    let ready = Ready::new();
    let directory = only(&ready.path("containers"));
    let id = directory.file_name().unwrap();
    let record = ready.path("image/devicemapper/layerdb/mounts").join(id);
    fs::remove_dir_all(&directory).unwrap();
    fs::remove_dir_all(&record).unwrap();
    let words = ["the container's devices are still there, which `docker rm` removes first"];
    ready.run("verify", &["--full"]).expect(3, &[]);
    ready.refused(1, &["verify --full"]);
    ready.run("rollback", &[]).expect(1, &words);
    let kept = ready.path(".aufs2dm/originals/containers").join(id);
    assert!(kept.join("config.v2.json").exists());
    // Docker removes the devices first, or marks them if they are in use.
    let [rw, init] = notes_of(&ready, id.as_ref()).try_into().unwrap();
    fs::remove_file(init).unwrap();
    ready.run("rollback", &[]).expect(1, &words);
    let marked = fs::read_to_string(&rw).unwrap();
    let marked = marked.replace('}', ",\"deleted\":true}");
    fs::write(&rw, marked).unwrap();
    ready.run("verify", &["--full"]).expect(0, &[]);
    ready
        .run("commit", &["--yes"])
        .expect(0, &["1 containers removed"]);
}
