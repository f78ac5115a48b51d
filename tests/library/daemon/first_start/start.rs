//! The daemon's own checks, tried on files: each fault by itself.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use aufs2dm::devicemapper::{
    FileSizes, FileSystemIdentity, Home, Pool, Severity, StartFault, start_checks,
};
use aufs2dm::docker::{CONFIG, Orphans, Survey, config_with_driver};
use aufs2dm::units::Bytes;

use crate::docker::{SmallRoot, WEB};

const UUID: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";

/// A converted root's small files, and what its pool would tell.
struct Converted {
    root: SmallRoot,
    devices: BTreeSet<u32>,
    transaction_id: u64,
    is_given: bool,
    file_system: Option<FileSystemIdentity>,
}

impl Converted {
    fn new() -> Self {
        let root = SmallRoot::new();
        let model = Survey::read(&root.open())
            .into_model(Orphans::Convert)
            .unwrap();
        let ids = std::iter::once("base").chain(model.aufs.iter().map(|layer| layer.id.as_str()));
        let mut devices = BTreeSet::new();
        for (id, number) in ids.zip(1..) {
            devices.insert(number);
            let text = format!(
                r#"{{"device_id":{number},"size":10737418240,"transaction_id":{number},"initialized":{},"deleted":false}}"#,
                number == 1
            );
            root.write(&format!("devicemapper/metadata/{id}"), text);
        }
        let last = devices.len() as u64;
        root.write(
            "devicemapper/metadata/deviceset-metadata",
            format!(r#"{{"next_device_id":{last},"BaseDeviceUUID":"{UUID}","BaseDeviceFilesystem":"ext4"}}"#),
        );
        root.write(
            "devicemapper/metadata/transaction-metadata",
            format!(r#"{{"open_transaction_id":{last},"device_hash":"x","device_id":{last}}}"#),
        );
        for name in ["data", "metadata"] {
            root.write(&format!("devicemapper/devicemapper/{name}"), "12345678");
        }
        fs::rename(root.at("image/aufs"), root.at("image/devicemapper")).unwrap();
        for entry in fs::read_dir(root.at("containers")).unwrap() {
            let path = entry.unwrap().path().join(CONFIG);
            let config = fs::read(&path).unwrap();
            fs::write(
                &path,
                config_with_driver(&config, "devicemapper")
                    .unwrap()
                    .unwrap(),
            )
            .unwrap();
        }
        Self {
            root,
            devices,
            transaction_id: last,
            is_given: false,
            file_system: Some(FileSystemIdentity {
                uuid: UUID.to_owned(),
                kind: "ext4".to_owned(),
            }),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.at("devicemapper/metadata").join(name)
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.file(name)).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(self.file(name), text.replace(from, to)).unwrap();
    }

    fn faults(&self) -> Vec<StartFault> {
        let home = Home {
            driver: self.root.at("devicemapper"),
            image: self.root.at("image/devicemapper"),
            root: Some(self.root.path.clone()),
        };
        let file_system_of = |device: u32| {
            assert_eq!(device, 1, "only the base is asked for");
            self.file_system
                .clone()
                .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        };
        let pool = Pool {
            transaction_id: self.transaction_id,
            devices: &self.devices,
            files: Some(FileSizes {
                data: Bytes(8),
                metadata: Bytes(8),
            }),
            is_given: self.is_given,
            file_system_of: &file_system_of,
        };
        start_checks(&home, &pool)
    }

    /// Fails unless there is this one fault, and it has these words.
    #[track_caller]
    fn expect(&self, severity: Severity, words: &[&str]) {
        let faults = self.faults();
        let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert!(
            faults.len() == 1
                && faults[0].severity() == severity
                && words.iter().all(|word| told[0].contains(word)),
            "{severity:?} {words:?} in {faults:#?}"
        );
    }
}

#[test]
fn a_root_in_order_has_no_fault() {
    let converted = Converted::new();
    assert!(converted.faults().is_empty(), "{:#?}", converted.faults());
    // What Docker leaves out, too.
    fs::write(converted.file(".tmp123"), "x").unwrap();
    fs::write(converted.file("json.migrated"), "x").unwrap();
    fs::create_dir(converted.file("empty")).unwrap();
    assert!(converted.faults().is_empty(), "{:#?}", converted.faults());
}

#[test]
fn files_that_are_no_devices_are_named_wherever_they_lie() {
    let converted = Converted::new();
    fs::write(converted.file("README"), "x").unwrap();
    converted.expect(Severity::Refusal, &["metadata/README", "not JSON"]);
    fs::remove_file(converted.file("README")).unwrap();
    // A name in a subdirectory is looked up in metadata itself.
    fs::create_dir_all(converted.file("sub/deeper")).unwrap();
    fs::write(converted.file("sub/deeper/note"), r#"{"device_id":1}"#).unwrap();
    converted.expect(Severity::Refusal, &["metadata/note", "cannot be read"]);
    fs::rename(
        converted.file("sub/deeper/note"),
        converted.file("sub/deeper/base"),
    )
    .unwrap();
    assert!(converted.faults().is_empty());
}

#[test]
fn damaged_device_files_are_named() {
    for (from, to, word) in [
        ("{", "", "not JSON"),
        ("\"device_id\":2", "\"device_id\":16777216", "16777216"),
        ("\"device_id\":2", "\"device_id\":-2", "-2"),
        ("\"size\":10737418240", "\"size\":1.5", "size"),
    ] {
        let converted = Converted::new();
        let model_id = fs::read_dir(converted.file(""))
            .unwrap()
            .map(|entry| entry.unwrap())
            .find(|entry| {
                fs::read_to_string(entry.path())
                    .unwrap()
                    .contains("\"device_id\":2,")
            })
            .unwrap();
        let name = model_id.file_name().into_string().unwrap();
        converted.edit(&name, from, to);
        let faults = converted.faults();
        let refusal = faults
            .iter()
            .find(|fault| fault.severity() == Severity::Refusal)
            .unwrap();
        assert!(
            refusal.to_string().contains(&name) && refusal.to_string().contains(word),
            "{refusal}"
        );
    }
}

#[test]
fn the_base_must_be_the_one_that_is_recorded() {
    let mut converted = Converted::new();
    converted.edit("deviceset-metadata", UUID, &UUID.to_uppercase());
    converted.expect(Severity::Refusal, &[UUID, &UUID.to_uppercase()]);
    converted.edit("deviceset-metadata", &UUID.to_uppercase(), "");
    assert!(converted.faults().is_empty(), "an absent one is filled in");
    converted.edit("deviceset-metadata", "\"ext4\"", "\"xfs\"");
    converted.expect(Severity::Warning, &["ext4", "xfs"]);
    fs::remove_file(converted.file("deviceset-metadata")).unwrap();
    assert!(converted.faults().is_empty(), "{:#?}", converted.faults());
    fs::write(converted.file("deviceset-metadata"), "{").unwrap();
    converted.expect(Severity::Refusal, &["deviceset-metadata"]);
    fs::remove_file(converted.file("deviceset-metadata")).unwrap();
    converted.file_system = None;
    converted.expect(Severity::Refusal, &["base device 1", "cannot be read"]);
    converted.devices.remove(&1);
    converted.expect(Severity::Refusal, &["base device 1", "not in the pool"]);
}

#[test]
fn a_base_that_docker_makes_anew_is_told() {
    let converted = Converted::new();
    converted.edit("base", "\"initialized\":true", "\"initialized\":false");
    converted.expect(Severity::Warning, &["unfinished"]);
    converted.edit("base", "\"deleted\":false", "\"deleted\":true");
    converted.expect(Severity::Warning, &["deleted"]);
}

#[test]
fn a_missing_base_refuses_in_a_given_pool_alone() {
    let mut converted = Converted::new();
    fs::remove_file(converted.file("base")).unwrap();
    converted.devices.remove(&1);
    converted.expect(
        Severity::Warning,
        &["metadata/base", "makes a new base device"],
    );
    converted.is_given = true;
    converted.expect(Severity::Refusal, &["metadata/base", "in use"]);
}

#[test]
fn a_transaction_newer_than_the_pools_deletes_its_device() {
    let mut converted = Converted::new();
    converted.transaction_id -= 1;
    converted.expect(
        Severity::Warning,
        &["transaction-metadata", "deletes device"],
    );
    converted.transaction_id += 2;
    converted.expect(Severity::Remark, &["logs an error and continues"]);
    // Docker ignores what it cannot read there, and takes zero.
    fs::write(converted.file("transaction-metadata"), "rubbish").unwrap();
    converted.expect(Severity::Remark, &["transaction 0"]);
    fs::remove_file(converted.file("transaction-metadata")).unwrap();
    assert!(converted.faults().is_empty());
}

#[test]
fn files_and_pool_must_name_the_same_devices() {
    let mut converted = Converted::new();
    converted.devices.insert(77);
    converted.expect(Severity::Remark, &["device 77", "lost"]);
    converted.devices.remove(&77);
    converted.devices.remove(&3);
    converted.expect(Severity::Warning, &["device 3", "not in the pool"]);
    converted.devices.insert(3);
    fs::write(converted.file("other"), r#"{"device_id":3,"size":1}"#).unwrap();
    converted.expect(Severity::Warning, &["device 3", "other"]);
}

#[test]
fn layers_and_mounts_without_a_device_are_named() {
    let converted = Converted::new();
    let mount = converted
        .root
        .read(&format!("image/devicemapper/layerdb/mounts/{WEB}/mount-id"));
    fs::remove_file(converted.file(mount.trim())).unwrap();
    let faults = converted.faults();
    let is_mount = |fault: &StartFault| {
        matches!(
            fault,
            StartFault::MountWithoutDevice {
                what: "writable",
                ..
            }
        )
    };
    assert!(faults.iter().any(is_mount), "{faults:#?}");

    let converted = Converted::new();
    let chain = fs::read_dir(converted.root.at("image/devicemapper/layerdb/sha256"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let cache = fs::read_to_string(chain.path().join("cache-id")).unwrap();
    fs::remove_file(converted.file(cache.trim())).unwrap();
    let faults = converted.faults();
    let is_layer = |fault: &StartFault| matches!(fault, StartFault::LayerWithoutDevice { .. });
    assert!(faults.iter().any(is_layer), "{faults:#?}");
}

#[test]
fn a_store_that_docker_cannot_read_is_told() {
    let converted = Converted::new();
    converted
        .root
        .write("image/devicemapper/repositories.json", "{");
    let faults = converted.faults();
    assert!(
        matches!(faults[0], StartFault::References { .. }),
        "{faults:#?}"
    );
    assert_eq!(faults[0].severity(), Severity::Refusal);
    let converted = Converted::new();
    let image = fs::read_dir(
        converted
            .root
            .at("image/devicemapper/imagedb/content/sha256"),
    )
    .unwrap()
    .next()
    .unwrap()
    .unwrap();
    let text = fs::read_to_string(image.path()).unwrap();
    fs::write(image.path(), text + " ").unwrap();
    let faults = converted.faults();
    assert!(
        faults
            .iter()
            .all(|fault| matches!(fault, StartFault::Store { .. }))
            && !faults.is_empty(),
        "{faults:#?}"
    );
}

#[test]
fn a_container_that_was_not_switched_is_named() {
    let converted = Converted::new();
    let path = format!("containers/{WEB}/{CONFIG}");
    let config = converted.root.read(&path);
    converted.root.write(
        &path,
        config.replace("\"Driver\":\"devicemapper\"", "\"Driver\":\"aufs\""),
    );
    converted.expect(Severity::Warning, &[WEB, "aufs"]);
}

#[test]
fn the_pools_files_must_be_there_whole() {
    let converted = Converted::new();
    let data = converted.root.at("devicemapper/devicemapper/data");
    fs::write(&data, "1234567").unwrap();
    converted.expect(Severity::Refusal, &["devicemapper/data", "7 bytes", "8"]);
    fs::remove_file(&data).unwrap();
    converted.expect(Severity::Refusal, &["devicemapper/data", "missing"]);
    // They may be links to another disk.
    converted.root.write("elsewhere", "12345678");
    std::os::unix::fs::symlink(converted.root.at("elsewhere"), &data).unwrap();
    assert!(converted.faults().is_empty());
    converted.root.write("devicemapper/devicemapper/json", "{}");
    converted.expect(Severity::Warning, &["devicemapper/json"]);
}

#[test]
fn a_home_behind_a_link_is_told() {
    let converted = Converted::new();
    fs::rename(converted.root.at("devicemapper"), converted.root.at("dm")).unwrap();
    std::os::unix::fs::symlink("dm", converted.root.at("devicemapper")).unwrap();
    converted.expect(Severity::Warning, &["symbolic link"]);
}
