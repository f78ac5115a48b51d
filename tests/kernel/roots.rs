//! The Docker roots that checks work on, and the layout questions they ask of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    lab::{Lab, run},
    pool::Pool,
};

/// The aufs root that Docker wrote.
const AUFS_ROOT: &str = "small.tar.xz";
/// A devicemapper root that Docker wrote.
const DEVICEMAPPER_ROOT: &str = "small-dm.tar.zst";

/// A devicemapper root that Docker itself wrote, the check's own.
pub(crate) fn dockers_own(lab: &Lab, scratch: &Path) -> Result<PathBuf> {
    // Unpacked once: GNU tar writes a sparse file in 512-byte pieces, and a guest's system call is dear.
    let original = lab.once("dockers-own", |directory| {
        lab.unpack(DEVICEMAPPER_ROOT, directory)
    })?;
    let copy = scratch.join("docker");
    lab.copy(&original.join("docker"), &copy)?;
    Ok(copy)
}

/// The aufs root that Docker wrote, shared by all checks.
pub(crate) fn aufs(lab: &Lab) -> Result<PathBuf> {
    Ok(lab
        .once("aufs", |directory| lab.unpack(AUFS_ROOT, directory))?
        .join("docker"))
}

/// That root after conversion, shared by all checks.
pub(crate) fn converted(lab: &Lab) -> Result<PathBuf> {
    let made = lab.once("converted", |directory| {
        let root = directory.join("docker");
        lab.copy(&aufs(lab)?, &root)?;
        convert(lab, &root).map(drop)
    });
    Ok(made?.join("docker"))
}

/// A converted root of the check's own.
pub(crate) fn converted_copy(lab: &Lab, scratch: &Path) -> Result<PathBuf> {
    let copy = scratch.join("docker");
    lab.copy(&converted(lab)?, &copy)?;
    Ok(copy)
}

/// Runs the tool on a root; returns what it printed.
pub(crate) fn convert(lab: &Lab, root: &Path) -> Result<String> {
    let pidfile = root.with_file_name("docker.pid");
    run(lab
        .tool()
        .arg("convert")
        .arg("--root")
        .arg(root)
        .arg("--pidfile")
        .arg(pidfile))
}

/// The driver id of an image layer, from Docker's own records.
pub(crate) fn cache_id(root: &Path, chain_id: &str) -> Result<String> {
    let hex = chain_id.strip_prefix("sha256:").unwrap_or(chain_id);
    let file = root
        .join("image/devicemapper/layerdb/sha256")
        .join(hex)
        .join("cache-id");
    fs::read_to_string(&file).with_context(|| file.display().to_string())
}

/// The driver id of a container's read-write layer, from Docker's own records.
pub(crate) fn mount_id(root: &Path, container: &str) -> Result<String> {
    let file = root
        .join("image/devicemapper/layerdb/mounts")
        .join(container)
        .join("mount-id");
    fs::read_to_string(&file).with_context(|| file.display().to_string())
}

/// Fails unless `thin_check` finds the pool's metadata clean.
pub(crate) fn thin_check(lab: &Lab, root: &Path) -> Result<()> {
    run(lab
        .command("thin_check")
        .arg(root.join("devicemapper/devicemapper/metadata")))?;
    Ok(())
}

/// Fails unless `e2fsck` finds every thin device clean.
pub(crate) fn check_file_systems(lab: &Lab, pool: &Pool) -> Result<()> {
    for id in pool.devices().keys() {
        let thin = pool.thin(id)?;
        run(lab.command("e2fsck").arg("-fn").arg(thin.path())).with_context(|| id.clone())?;
        thin.close()?;
    }
    Ok(())
}
