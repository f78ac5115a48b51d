//! Verification of real roots: a sound one passes, and each kind of damage is found and named.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use aufs2dm::command::OpenRoot;
use aufs2dm::content::pool::Pool;
use aufs2dm::devicemapper::DeviceFiles;
use aufs2dm::devicemapper::driver_files::{BASE_FILE, DeviceId};
use aufs2dm::docker::{DamageRecord, StorePaths};
use aufs2dm::ext4::Checksums;
use aufs2dm::ext4::Ino;
use aufs2dm::ext4::read::View;
use aufs2dm::pool::Target;
use aufs2dm::progress::Cancel;
use aufs2dm::thin::ThinId;
use aufs2dm::verify::{
    Contents, Devices, LayerReport, Mode, Proof, Report, Request, Role, Tree, Verdict, verify,
};
use tempfile::TempDir;

use crate::command::{Quiet, request};
use crate::support::fixture::unpack;

/// Converts the root below `dir`.
pub(crate) fn convert(root: &Path) {
    let source = OpenRoot::open(request(root, Checksums::GroupDescriptors)).unwrap();
    source.plan(&Quiet).unwrap().execute(&Quiet).unwrap();
}

/// The fixture, converted.
fn converted() -> (TempDir, PathBuf) {
    let unpacked = unpack("small.tar.xz");
    let root = unpacked.path().join("docker");
    convert(&root);
    (unpacked, root)
}

/// Which parts of a root are there.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Parts {
    Both,
    Aufs,
    DeviceMapper,
}

/// Verifies a root.
pub(crate) fn verified(root: &Path, parts: Parts, mode: Mode) -> Report {
    let (aufs, home) = (root.join("aufs"), root.join("devicemapper"));
    let driver = if parts == Parts::Aufs {
        "aufs"
    } else {
        "devicemapper"
    };
    let image = root.join("image").join(driver);
    let original = root.join("image/aufs");
    let before = DamageRecord::default();
    let request = Request {
        before: &before,
        stores: StorePaths {
            root,
            image: &image,
            aufs: (parts != Parts::DeviceMapper).then_some(&*aufs),
        },
        devices: (parts != Parts::Aufs).then_some(Devices {
            home: &home,
            target: &Target::LoopFiles,
        }),
        original: (parts == Parts::Both).then_some(&*original),
        images_without_layers: None,
        has_names: false,
        mode,
        reads_aufs: false,
        kernel: None,
        conversion: None,
        known_damage: &[],
        noted: None,
        jobs: NonZeroUsize::new(2).unwrap(),
        cancel: Cancel::default(),
    };
    verify(&request, &Quiet).unwrap()
}

/// The layers that are not sound.
fn unsound(report: &Report) -> Vec<&LayerReport> {
    let wrong = |layer: &&LayerReport| layer.verdict() != Verdict::Sound;
    report.layers.iter().filter(wrong).collect()
}

fn of_role(report: &Report, role: Role) -> impl Iterator<Item = &LayerReport> {
    report.layers.iter().filter(move |layer| layer.role == role)
}

/// An image layer that has this file, and the path of its branch.
fn layer_with(root: &Path, file: &str) -> (String, PathBuf) {
    let layers = fs::read_dir(root.join("image/aufs/layerdb/sha256")).unwrap();
    let ids =
        layers.map(|layer| fs::read_to_string(layer.unwrap().path().join("cache-id")).unwrap());
    let branch = |id: &str| root.join("aufs/diff").join(id);
    let mut with: Vec<String> = ids.filter(|id| branch(id).join(file).is_file()).collect();
    with.sort();
    let id = with.swap_remove(0);
    (id.clone(), branch(&id))
}

/// A regular file of an image layer with some content, by the layer's id: its path in the branch.
fn some_file(root: &Path) -> (String, PathBuf) {
    let (id, branch) = layer_with(root, "etc/passwd");
    (id, branch.join("etc/passwd"))
}

/// Where in the data file a file of a layer begins.
fn place_in_data(root: &Path, layer: &str, path: &str) -> u64 {
    let home = root.join("devicemapper");
    let files = DeviceFiles::read(&home).unwrap();
    let record = files
        .layers
        .iter()
        .find(|(id, _)| id.as_str() == layer)
        .unwrap()
        .1;
    let pool = Pool::open(&home, &Target::LoopFiles).unwrap();
    let number = ThinId::new(record.id().get()).unwrap();
    let device = pool.device(number, record.size()).unwrap();
    let view = View::read(&device).unwrap().view;
    let mut ino = view.lookup(Ino::ROOT, b"rootfs").unwrap();
    for name in path.split('/') {
        ino = view.lookup(ino, name.as_bytes()).unwrap();
    }
    let run = view.extents(ino).next().unwrap();
    let start = run.physical * u64::from(view.block_bytes());
    device.places(start..start + 1).next().unwrap().data_offset
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], at).unwrap();
}

#[test]
fn a_converted_root_is_proven_layer_by_layer() {
    let (_dir, root) = converted();
    let report = verified(&root, Parts::Both, Mode::Full);
    assert_eq!(report.verdict, Verdict::Sound, "{report}");
    assert_eq!(of_role(&report, Role::Image).count(), 20);
    for layer in of_role(&report, Role::Image) {
        let by_diff_id = matches!(
            layer.contents,
            Contents::Verified {
                by: Proof::DiffId,
                ..
            }
        );
        assert!(by_diff_id, "{layer:?}");
    }
    for layer in &report.layers {
        assert!(matches!(layer.tree, Tree::Same { .. }), "{layer:?}");
        assert!(layer.space.is_empty(), "{layer:?}");
        let left_out = matches!(
            layer.contents,
            Contents::NotRead | Contents::NotVerifiable { .. }
        );
        assert!(!left_out, "{layer:?}");
    }
    assert!(of_role(&report, Role::Writable).any(|layer| matches!(
        layer.contents,
        Contents::Verified {
            by: Proof::Comparison,
            files: 1..,
            ..
        }
    )));
}

#[test]
fn without_the_aufs_side_images_are_still_proven() {
    let (_dir, root) = converted();
    fs::remove_dir_all(root.join("aufs")).unwrap();
    fs::remove_dir_all(root.join("image/aufs")).unwrap();
    let report = verified(&root, Parts::DeviceMapper, Mode::Full);
    assert_eq!(report.verdict, Verdict::Sound, "{report}");
    for layer in of_role(&report, Role::Image) {
        assert!(matches!(
            layer.contents,
            Contents::Verified {
                by: Proof::DiffId,
                ..
            }
        ));
        assert!(matches!(layer.tree, Tree::NotCompared { .. }));
    }
    for layer in of_role(&report, Role::Writable) {
        assert!(matches!(layer.contents, Contents::NotVerifiable { .. }));
    }
}

#[test]
fn an_aufs_root_is_proven_before_any_conversion() {
    let unpacked = unpack("small.tar.xz");
    let root = unpacked.path().join("docker");
    let report = verified(&root, Parts::Aufs, Mode::Full);
    assert_eq!(report.verdict, Verdict::Sound, "{report}");
    let proven = of_role(&report, Role::Image).filter(|layer| {
        matches!(
            layer.contents,
            Contents::Verified {
                by: Proof::DiffId,
                ..
            }
        )
    });
    assert_eq!(proven.count(), 20);
    let (id, file) = some_file(&root);
    flip(&file, 0);
    let report = verified(&root, Parts::Aufs, Mode::Full);
    assert_eq!(report.verdict, Verdict::SourceDamaged);
    let wrong = unsound(&report);
    assert_eq!(wrong.len(), 1);
    assert_eq!(wrong[0].id.as_ref().unwrap().as_str(), id);
    let text = report.to_string();
    assert!(
        text.contains("/etc/passwd: its content is not what Docker recorded"),
        "{text}"
    );
}

#[test]
fn a_root_that_docker_wrote_itself_is_proven() {
    let unpacked = unpack("small-dm.tar.zst");
    let report = verified(
        &unpacked.path().join("docker"),
        Parts::DeviceMapper,
        Mode::Full,
    );
    assert_eq!(report.verdict, Verdict::Sound, "{report}");
    let proven = of_role(&report, Role::Image).filter(|layer| {
        matches!(
            layer.contents,
            Contents::Verified {
                by: Proof::DiffId,
                ..
            }
        )
    });
    assert_eq!(proven.count(), of_role(&report, Role::Image).count());
    assert!(report.nr_devices > 20);
}

#[test]
fn a_flipped_byte_of_a_file_is_found_in_its_layer_alone() {
    let (_dir, root) = converted();
    let (id, _) = some_file(&root);
    let data = root.join("devicemapper/devicemapper/data");
    flip(&data, place_in_data(&root, &id, "etc/passwd"));
    let report = verified(&root, Parts::Both, Mode::Full);
    assert_eq!(report.verdict, Verdict::Wrong);
    let wrong = unsound(&report);
    assert_eq!(wrong.len(), 1, "{report}");
    assert_eq!(wrong[0].id.as_ref().unwrap().as_str(), id);
    let Contents::Mismatch { files, .. } = &wrong[0].contents else {
        panic!("{report}");
    };
    assert_eq!(
        files.first,
        ["/etc/passwd: its content is not what Docker recorded"]
    );
    assert!(report.to_string().contains("affects image"), "{report}");
    // Quick verification reads the contents of a sample only, but all else.
    let report = verified(&root, Parts::Both, Mode::Quick);
    let not_read =
        of_role(&report, Role::Image).filter(|layer| layer.contents == Contents::NotRead);
    assert!(not_read.count() > 10);
}

#[test]
fn damage_from_before_the_conversion_is_told_from_a_bad_conversion() {
    let unpacked = unpack("small.tar.xz");
    let root = unpacked.path().join("docker");
    let (id, file) = some_file(&root);
    flip(&file, 3);
    convert(&root);
    let report = verified(&root, Parts::Both, Mode::Full);
    assert_eq!(report.verdict, Verdict::SourceDamaged, "{report}");
    let wrong = unsound(&report);
    assert_eq!(wrong.len(), 1);
    assert_eq!(wrong[0].id.as_ref().unwrap().as_str(), id);
    let Contents::SourceDamaged { files } = &wrong[0].contents else {
        panic!("{report}");
    };
    assert!(files.first[0].starts_with("/etc/passwd: "), "{files:?}");
    // The same damage, but not the same in aufs: then the conversion is not excused.
    flip(&file, 4);
    let report = verified(&root, Parts::Both, Mode::Full);
    assert_eq!(report.verdict, Verdict::Wrong, "{report}");
}

#[test]
fn a_layer_without_tar_split_is_compared_with_aufs_or_not_verifiable() {
    let (_dir, root) = converted();
    let (id, _) = some_file(&root);
    for store in ["aufs", "devicemapper"] {
        let layers = fs::read_dir(root.join(format!("image/{store}/layerdb/sha256"))).unwrap();
        for layer in layers.map(|layer| layer.unwrap().path()) {
            if fs::read_to_string(layer.join("cache-id")).unwrap() == id {
                fs::remove_file(layer.join("tar-split.json.gz")).unwrap();
            }
        }
    }
    let grade = |parts| {
        let report = verified(&root, parts, Mode::Full);
        assert_eq!(report.verdict, Verdict::Sound, "{report}");
        let is_it = |layer: &&LayerReport| layer.id.as_ref().is_some_and(|own| own.as_str() == id);
        report.layers.iter().find(is_it).unwrap().contents.clone()
    };
    assert!(matches!(
        grade(Parts::Both),
        Contents::Verified {
            by: Proof::Comparison,
            ..
        }
    ));
    assert!(matches!(
        grade(Parts::DeviceMapper),
        Contents::NotVerifiable { .. }
    ));
}

#[test]
fn a_damaged_tar_split_is_wrong_unless_aufs_has_the_same() {
    let (_dir, root) = converted();
    let (id, _) = some_file(&root);
    let damage = |store: &str| {
        let layers = fs::read_dir(root.join(format!("image/{store}/layerdb/sha256"))).unwrap();
        for layer in layers.map(|layer| layer.unwrap().path()) {
            if fs::read_to_string(layer.join("cache-id")).unwrap() == id {
                flip(&layer.join("tar-split.json.gz"), 40);
            }
        }
    };
    damage("devicemapper");
    let report = verified(&root, Parts::Both, Mode::Full);
    assert_eq!(report.verdict, Verdict::Wrong);
    let wrong = unsound(&report);
    assert_eq!(wrong.len(), 1, "{report}");
    assert_eq!(wrong[0].id.as_ref().unwrap().as_str(), id);
    assert!(
        report
            .to_string()
            .contains("/tar-split.json.gz: differs from"),
        "{report}"
    );
    // The same damage, in what was copied: it was so before.
    damage("aufs");
    let report = verified(&root, Parts::Both, Mode::Full);
    assert_eq!(report.verdict, Verdict::SourceDamaged, "{report}");
    fs::remove_dir_all(root.join("aufs")).unwrap();
    fs::remove_dir_all(root.join("image/aufs")).unwrap();
    let report = verified(&root, Parts::DeviceMapper, Mode::Full);
    assert_eq!(report.verdict, Verdict::Wrong, "{report}");
    assert!(
        report.to_string().contains("cannot save or push"),
        "{report}"
    );
}

#[test]
fn devices_that_are_gone_or_changed_places_are_found() {
    let (_dir, root) = converted();
    let metadata = root.join("devicemapper/metadata");
    let mut records: BTreeMap<u32, PathBuf> = BTreeMap::new();
    let files = DeviceFiles::read(&root.join("devicemapper")).unwrap();
    for (id, record) in &files.layers {
        records.insert(record.id().get(), metadata.join(id.as_str()));
    }
    let [first, second] = [2, 3].map(|number| records[&number].clone());
    let swap = |a: &Path, b: &Path| {
        let between = metadata.join(".between");
        fs::rename(a, &between).unwrap();
        fs::rename(b, a).unwrap();
        fs::rename(between, b).unwrap();
    };
    swap(&first, &second);
    let report = verified(&root, Parts::Both, Mode::Quick);
    assert_eq!(report.verdict, Verdict::Wrong);
    assert!(unsound(&report).len() >= 2, "{report}");
    swap(&first, &second);
    assert_eq!(
        verified(&root, Parts::Both, Mode::Quick).verdict,
        Verdict::Sound
    );
    let text = fs::read_to_string(&first).unwrap();
    let other = text.replace(
        "\"device_id\":2,",
        &format!("\"device_id\":{},", DeviceId::MAX.get()),
    );
    fs::write(&first, other).unwrap();
    let report = verified(&root, Parts::Both, Mode::Quick);
    assert!(
        report
            .to_string()
            .contains("its device 16777215 is not in the pool"),
        "{report}"
    );
    fs::remove_file(&first).unwrap();
    let report = verified(&root, Parts::Both, Mode::Quick);
    assert!(report.to_string().contains("has no device"), "{report}");
    fs::remove_file(metadata.join(BASE_FILE)).unwrap();
    let report = verified(&root, Parts::Both, Mode::Quick);
    assert!(report.to_string().contains("no base device"), "{report}");
}

#[test]
fn a_pool_that_cannot_be_read_is_a_fault_and_not_the_end() {
    let (_dir, root) = converted();
    let metadata = root.join("devicemapper/devicemapper/metadata");
    let file = File::options().write(true).open(&metadata).unwrap();
    file.write_all_at(&[0xff; 64], 4096 + 100).unwrap();
    let report = verified(&root, Parts::Both, Mode::Full);
    assert_eq!(report.verdict, Verdict::Wrong);
    assert!(!report.faults.is_empty());
}

#[test]
fn a_report_is_json_with_its_documented_names() {
    let unpacked = unpack("small.tar.xz");
    let report = verified(&unpacked.path().join("docker"), Parts::Aufs, Mode::Full);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["mode"], "full");
    assert_eq!(json["verdict"], "sound");
    assert_eq!(json["kernel"]["asked"], "no");
    let layers = json["layers"].as_array().unwrap();
    let image = layers
        .iter()
        .find(|layer| layer["role"] == "image")
        .unwrap();
    assert_eq!(image["contents"]["grade"], "verified");
    assert_eq!(image["contents"]["by"], "diff-id");
    assert_eq!(image["tree"]["grade"], "not-compared");
    assert!(image["diff_id"].as_str().unwrap().starts_with("sha256:"));
}

#[test]
fn a_verdict_says_no_more_than_what_was_looked_at() {
    let (_dir, root) = converted();
    let full = verified(&root, Parts::Both, Mode::Full);
    let read_by_device = of_role(&full, Role::Image).filter(|layer| {
        let verified = &layer.contents;
        matches!(
            verified,
            Contents::Verified {
                by: Proof::DiffId,
                bytes: 1..,
                ..
            }
        )
    });
    let unread = read_by_device.count();
    let end = format!(
        "nothing is wrong with the devices; the bytes of {unread} layers in aufs were not read"
    );
    assert!(full.to_string().ends_with(&end), "{full}");
    assert_eq!(full.coverage.counts.read, full.coverage.counts.layers);
    let read = |report: &Report| -> Vec<String> {
        let layers = of_role(report, Role::Image);
        let read = layers.filter(|layer| layer.contents != Contents::NotRead);
        read.map(|layer| layer.id.as_ref().unwrap().to_string())
            .collect()
    };
    let mut samples = Vec::new();
    for _ in 0..6 {
        let quick = verified(&root, Parts::Both, Mode::Quick);
        let text = quick.to_string();
        assert!(!text.contains("nothing is wrong"), "{text}");
        assert!(text.contains("no fault in what was read: "), "{text}");
        let share = quick.coverage.bytes_read_share;
        assert!(share > 0.0 && share < 1.0, "{text}");
        assert_eq!(quick.coverage.counts.not_compared, 0, "{text}");
        samples.push(read(&quick));
    }
    samples.dedup();
    assert!(samples.len() > 1, "always the same sample: {samples:?}");
    fs::remove_dir_all(root.join("aufs")).unwrap();
    fs::remove_dir_all(root.join("image/aufs")).unwrap();
    let text = verified(&root, Parts::DeviceMapper, Mode::Full).to_string();
    assert!(!text.contains("nothing is wrong"), "{text}");
    let reason = "30 layers: names and attributes not compared: there is no aufs side";
    assert_eq!(text.matches(reason).count(), 1, "{text}");
}

/// Makes a converted root one whose devices have xfs by all that tells without mounting them.
fn as_xfs(root: &Path) {
    let home = root.join("devicemapper");
    let note = home.join("metadata/deviceset-metadata");
    let text = fs::read_to_string(&note).unwrap();
    assert!(text.contains("\"ext4\""), "{text}");
    fs::write(&note, text.replace("\"ext4\"", "\"xfs\"")).unwrap();
    let base = DeviceFiles::read(&home).unwrap().base.unwrap();
    let pool = Pool::open(&home, &Target::LoopFiles).unwrap();
    let number = ThinId::new(base.id().get()).unwrap();
    let device = pool.device(number, base.size()).unwrap();
    let start = device.places(0..4096).next().unwrap().data_offset;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(home.join("devicemapper/data"))
        .unwrap();
    let mut uuid = [0; 16];
    file.read_exact_at(&mut uuid, start + 1128).unwrap();
    file.write_all_at(&[0; 2], start + 1080).unwrap();
    file.write_all_at(b"XFSB", start).unwrap();
    file.write_all_at(&uuid, start + 32).unwrap();
}

#[test]
fn devices_that_no_kernel_can_be_asked_to_mount_are_not_verified() {
    let (_dir, root) = converted();
    as_xfs(&root);
    for mode in [Mode::Quick, Mode::Full] {
        let report = verified(&root, Parts::Both, mode);
        assert_eq!(report.verdict, Verdict::NotVerified, "{report}");
        let counts = report.coverage.counts;
        assert_eq!(counts.read, 0, "{report}");
        assert_eq!(counts.not_compared, counts.layers, "{report}");
        assert!(counts.not_verified > 0, "{report}");
        assert!(report.to_string().contains("NOT VERIFIED"), "{report}");
        assert!(!report.to_string().contains("nothing is wrong"), "{report}");
    }
}
