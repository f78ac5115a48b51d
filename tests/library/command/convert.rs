//! Conversions judged from outside: real roots and random stacks, by the formats' own tools and the kernel.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use aufs2dm::command::{Choices, OpenRoot, Request, Writer};
use aufs2dm::daemon::Host;
use aufs2dm::docker::Orphans;
use aufs2dm::engine::direct::Target;
use aufs2dm::ext4::Checksums;
use aufs2dm::plan;
use aufs2dm::progress::Cancel;
use aufs2dm::units::Bytes;

use super::pool::{PoolFiles, Quiet, chain, judge, options};
use crate::support::compare::assert_same;
use crate::support::fixture::unpack;
use crate::support::merge::reference_merge;
use crate::support::random::random_stack;
use crate::support::walk::walk;

pub(crate) fn request(root: &Path, checksums: Checksums) -> Request {
    Request {
        root: root.to_owned(),
        host: Host {
            pid_file: root.with_file_name("docker.pid"),
            // None: what this machine's daemon would be told is nothing to a test.
            root: root.with_file_name("host"),
            ..Host::default()
        },
        dry_run: false,
        restart: false,
        choices: Choices {
            repair: true,
            skip_damaged: false,
            orphans: Orphans::Convert,
            writer: Writer::Direct,
            switch_daemon: false,
            verify: true,
        },
        plan: plan::Choices {
            checksums,
            ..plan::Choices::default()
        },
        jobs: NonZeroUsize::new(4).unwrap(),
        cancel: Cancel::default(),
        checkpoint: std::time::Duration::MAX,
    }
}

/// The branches of a layer by Docker's own list, the bottom one first.
fn branches(root: &Path, id: &str) -> Vec<PathBuf> {
    let aufs = root.join("aufs");
    let below = std::fs::read_to_string(aufs.join("layers").join(id)).unwrap();
    let mut branches: Vec<_> = below.lines().map(|id| aufs.join("diff").join(id)).collect();
    branches.reverse();
    branches.push(aufs.join("diff").join(id));
    branches
}

fn judge_fixture(checksums: Checksums) {
    let unpacked = unpack("small.tar.xz");
    let root = unpacked.path().join("docker");
    let source = OpenRoot::open(request(&root, checksums)).unwrap();
    let prepared = source.plan(&Quiet).unwrap();
    let layout = prepared.layout().unwrap();
    let (base_size, pool) = (layout.plan.base_size, layout.pool.clone());
    let layers: Vec<_> = layout
        .plan
        .devices
        .iter()
        .map(|device| {
            let layer = device.layer.as_ref();
            (
                device.thin_id.value(),
                layer.map(|layer| layer.id.to_string()),
            )
        })
        .collect();
    prepared.execute(&Quiet).unwrap();
    assert_eq!(base_size, Bytes::gib(10));
    let home = root.join("devicemapper/devicemapper");
    let files = PoolFiles {
        target: Target {
            data: home.join("data"),
            metadata: home.join("metadata"),
        },
        base_size,
        pool: &pool,
    };
    let dumps = files.dump();
    assert_eq!(dumps.len(), layers.len());
    for (id, layer) in layers {
        let flat = files.flat(&dumps[&id]);
        flat.check();
        if let Some(layer) = layer {
            let mounted = flat.mount("ro,noload");
            let expected = reference_merge(&branches(&root, &layer));
            assert_same(&layer, &expected, &walk(&mounted.rootfs()));
        }
    }
}

#[test]
fn every_device_of_the_converted_fixture_is_the_merge_of_its_branches() {
    judge_fixture(Checksums::GroupDescriptors);
}

#[test]
fn so_it_is_with_checksums_on_all_metadata() {
    judge_fixture(Checksums::Metadata);
}

#[test]
fn random_stacks_come_out_as_a_plain_merge_of_their_branches() {
    for seed in 0..8 {
        let stack = random_stack(seed);
        let mut options = options();
        if seed % 3 == 0 {
            options.choices.checksums = Checksums::Metadata;
        }
        judge(&chain(&stack.branches), &options);
    }
}
