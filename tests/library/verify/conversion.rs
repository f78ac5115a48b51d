//! Verification at the end of a conversion: staged files, and contents by the checksums of what was written.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;

use aufs2dm::command::{OpenRoot, PlannedConversion};
use aufs2dm::devicemapper::driver_files::{BASE_FILE, Device, DeviceId};
use aufs2dm::docker::{DamageRecord, StorePaths};
use aufs2dm::engine::direct::{self, Target as Files};
use aufs2dm::engine::{self, WrittenRun};
use aufs2dm::ext4::Checksums;
use aufs2dm::pool::Target;
use aufs2dm::progress::Cancel;
use aufs2dm::verify::{
    Contents, Conversion, Devices, Mode, Proof, Report, Request, Role, Tree, Verdict, verify,
};

use crate::command::{Quiet, request, with_jobs};
use crate::support::fixture::unpack;

/// Writes a plan beside the root, as a conversion stages it.
fn stage(prepared: &PlannedConversion, stage: &Path) -> Vec<WrittenRun> {
    let layout = prepared.layout().unwrap();
    let home = stage.join("devicemapper");
    let (loops, metadata) = (home.join("devicemapper"), home.join("metadata"));
    fs::create_dir_all(&loops).unwrap();
    fs::create_dir_all(&metadata).unwrap();
    let files = Files {
        data: loops.join("data"),
        metadata: loops.join("metadata"),
    };
    let options = engine::Options {
        checksums: true,
        ..with_jobs(2)
    };
    let written = direct::write(layout, &files, &options, &Quiet).unwrap();
    for device in &layout.plan.devices {
        let id = DeviceId::new(device.thin_id.value().into()).unwrap();
        let size = layout.plan.base_size;
        let (name, record) = match &device.layer {
            None => (BASE_FILE, Device::base(size, device.transaction_id)),
            Some(layer) => (
                layer.id.as_str(),
                Device::layer(id, size, device.transaction_id),
            ),
        };
        fs::write(metadata.join(name), record.encode()).unwrap();
    }
    written
}

fn verified(
    root: &Path,
    stage: &Path,
    prepared: &PlannedConversion,
    written: &[WrittenRun],
) -> Report {
    let before = DamageRecord::default();
    let request = Request {
        before: &before,
        stores: StorePaths {
            root,
            image: &stage.join("image"),
            aufs: Some(&root.join("aufs")),
        },
        devices: Some(Devices {
            home: &stage.join("devicemapper"),
            target: &Target::LoopFiles,
        }),
        original: Some(&root.join("image/aufs")),
        images_without_layers: None,
        has_names: false,
        mode: Mode::Quick,
        reads_aufs: false,
        known_damage: &[],
        noted: None,
        kernel: None,
        conversion: Some(Conversion {
            plan: prepared.plan(),
            written: Some(written),
        }),
        jobs: NonZeroUsize::new(2).unwrap(),
        cancel: Cancel::default(),
    };
    verify(&request, &Quiet).unwrap()
}

#[test]
fn a_staged_result_is_proven_without_reading_it_back() {
    let unpacked = unpack("small.tar.xz");
    let root = unpacked.path().join("docker");
    let source = OpenRoot::open(request(&root, Checksums::GroupDescriptors)).unwrap();
    let prepared = source.plan(&Quiet).unwrap();
    let at = unpacked.path().join("stage");
    let written = stage(&prepared, &at);
    let copy = Command::new("cp")
        .arg("-a")
        .args([root.join("image/aufs"), at.join("image")])
        .status();
    assert!(copy.unwrap().success());

    let report = verified(&root, &at, &prepared, &written);
    assert_eq!(report.verdict, Verdict::Sound, "{report}");
    let mut proven = 0;
    for layer in &report.layers {
        assert!(matches!(layer.tree, Tree::Same { .. }), "{layer:?}");
        if layer.role == Role::Image {
            assert!(
                matches!(
                    layer.contents,
                    Contents::Verified {
                        by: Proof::Checksums,
                        ..
                    } | Contents::Nothing
                ),
                "{layer:?}"
            );
            proven += 1;
        }
    }
    assert_eq!(proven, 20);
    let by_checksums = report.bytes_read;

    // What was not noted is read back.
    let report = verified(&root, &at, &prepared, &[]);
    assert_eq!(report.verdict, Verdict::Sound, "{report}");
    assert!(
        report.bytes_read > 10 * by_checksums + (1 << 20),
        "{} and {by_checksums}",
        report.bytes_read
    );

    // Other bytes than those that Docker recorded.
    let mut damaged = written.clone();
    damaged[0].crc64 ^= 1;
    let report = verified(&root, &at, &prepared, &damaged);
    assert_ne!(report.verdict, Verdict::Sound);
    let wrong = report
        .layers
        .iter()
        .filter(|layer| layer.verdict() != Verdict::Sound);
    assert_eq!(wrong.count(), 1, "{report}");
}
