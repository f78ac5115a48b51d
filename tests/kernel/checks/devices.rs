//! The thin devices of a converted root, without Docker.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::Path};

use anyhow::{Context, Result, ensure};
use sys_mount::MountFlags;

use super::expect_none;
use crate::{
    lab::Lab,
    pool::{DeviceFile, Pool},
    roots,
    support::{compare::compare, merged::MergedTree, walk::walk},
    truth::Truth,
    variant::Variant,
};

/// Each image's and each container's device, mounted, holds what a fresh aufs mount showed.
pub(super) fn every_device_equals_the_tree_that_aufs_showed(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    let truth = Truth::of_aufs(lab)?;
    let index = truth.index()?;
    let mut views: BTreeMap<&str, Vec<(String, MergedTree)>> = BTreeMap::new();
    for (id, image) in &index.images {
        let top = image
            .cache_ids_bottom_first
            .last()
            .context("an image without layers")?;
        let name = format!("image-{id}");
        let tree = truth.tree(&name);
        views.entry(top).or_default().push((name, tree));
    }
    for (id, container) in &index.containers {
        ensure!(
            roots::mount_id(root.path(), id)? == container.mount_id,
            "container {id} has another layer now"
        );
        let view = (format!("container-{id}"), truth.container_tree(id));
        views.entry(&container.mount_id).or_default().push(view);
    }
    let pool = Pool::activate(&root)?;
    let target = scratch.join("mnt");
    let mut differences = Vec::new();
    for (device, wanted) in views {
        let thin = pool.thin(device)?;
        let mounted = thin.mount(&target, MountFlags::RDONLY)?;
        let rootfs = target.join("rootfs");
        let found = walk(&rootfs);
        for (name, tree) in wanted {
            differences.extend(
                compare(&tree, &found)
                    .iter()
                    .map(|line| format!("{name}: {line}")),
            );
            differences.extend(filled_holes(&truth, &name, &rootfs)?);
        }
        mounted.close()?;
        thin.close()?;
    }
    pool.close()?;
    expect_none("converted devices", &differences)
}

/// Files that take more space than they did, by more than one block for the extents of a scattered file.
fn filled_holes(truth: &Truth, name: &str, rootfs: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (path, before) in truth.blocks(name)? {
        let meta = rootfs.join(path.trim_start_matches('/')).symlink_metadata();
        let now = meta.map_or(0, |meta| meta.blocks()); // what is missing the comparison tells
        if now > before + 8 {
            lines.push(format!(
                "{name}: {path}: took {before} sectors, takes {now}"
            ));
        }
    }
    Ok(lines)
}

/// The kernel writes to every device and takes snapshots of it, and afterwards pool and file systems are clean.
pub(super) fn every_device_can_be_written_and_snapshotted(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    roots::thin_check(lab, &root)?;
    let pool = Pool::activate(&root)?;
    roots::check_file_systems(lab, &pool)?;
    let devices: Vec<DeviceFile> = pool.devices().values().copied().collect();
    let mut next = devices
        .iter()
        .map(|device| device.device_id)
        .max()
        .context("no devices")?;
    for device in devices {
        next += 1;
        write_and_snapshot(&pool, device, next, scratch)
            .with_context(|| format!("thin device {} with snapshot {next}", device.device_id))?;
    }
    let status = pool.status()?;
    ensure!(
        !status.contains("needs_check") && !status.contains("Fail"),
        "pool status: {status}"
    );
    roots::check_file_systems(lab, &pool)?;
    pool.close()?;
    roots::thin_check(lab, &root)
}

fn write_and_snapshot(
    pool: &Pool,
    device: DeviceFile,
    snapshot: u32,
    scratch: &Path,
) -> Result<()> {
    let target = scratch.join("mnt");
    let content = vec![0x5a; 300_000];
    let thin = pool.thin_number(device.device_id, device.size)?;
    let mounted = thin.mount(&target, MountFlags::empty())?;
    fs::create_dir_all(target.join("rootfs/written"))?;
    fs::write(target.join("rootfs/written/file"), &content)?;
    mounted.close()?;
    thin.close()?;

    pool.message(&format!("create_snap {snapshot} {}", device.device_id))?;
    let thin = pool.thin_number(snapshot, device.size)?;
    let mounted = thin.mount(&target, MountFlags::empty())?;
    ensure!(
        fs::read(target.join("rootfs/written/file"))? == content,
        "the snapshot lacks what was written"
    );
    fs::remove_dir_all(target.join("rootfs/written"))?;
    mounted.close()?;
    thin.close()?;

    let thin = pool.thin_number(device.device_id, device.size)?;
    let mounted = thin.mount(&target, MountFlags::RDONLY)?;
    ensure!(
        fs::read(target.join("rootfs/written/file"))? == content,
        "the snapshot's change reached its origin"
    );
    mounted.close()?;
    thin.close()
}
