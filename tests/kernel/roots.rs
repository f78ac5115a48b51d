//! The Docker roots that checks work on, and the layout questions they ask of them.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    lab::{Lab, run},
    pool::Pool,
    storage::{AMPLE, Storage, Target},
    variant::Variant,
};

/// The aufs root that Docker wrote.
const AUFS_ROOT: &str = "small.tar.xz";
/// A devicemapper root that Docker wrote.
const DEVICEMAPPER_ROOT: &str = "small-dm.tar.zst";

/// A devicemapper root with the devices it needs.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    storage: Storage,
    options: Vec<String>,
}

impl Root {
    /// A root at `path` on `storage`, for a daemon with these storage options.
    pub(crate) fn new(path: PathBuf, storage: Storage, options: Vec<String>) -> Self {
        Self {
            path,
            storage,
            options,
        }
    }

    /// The same, for a daemon with other storage options.
    pub(crate) fn with_options(self, options: Vec<String>) -> Self {
        Self { options, ..self }
    }

    /// Docker's data directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What its devices lie on.
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The daemon's storage options.
    pub(crate) fn options(&self) -> &[String] {
        &self.options
    }
}

/// A devicemapper root that Docker itself wrote, the check's own.
pub(crate) fn dockers_own(lab: &Lab, scratch: &Path) -> Result<Root> {
    // Unpacked once: GNU tar writes a sparse file in 512-byte pieces, and a guest's system call is dear.
    let original = lab.once("dockers-own", |directory| {
        lab.unpack(DEVICEMAPPER_ROOT, directory)
    })?;
    let copy = scratch.join("docker");
    lab.copy(&original.join("docker"), &copy)?;
    Ok(Root::new(copy, Storage::files(), Vec::new()))
}

/// The aufs root that Docker wrote, shared by all checks.
pub(crate) fn aufs(lab: &Lab) -> Result<PathBuf> {
    Ok(lab
        .once("aufs", |directory| lab.unpack(AUFS_ROOT, directory))?
        .join("docker"))
}

/// A copy of that root, converted, for this check alone.
pub(crate) fn converted(lab: &Lab, scratch: &Path, variant: Variant) -> Result<Root> {
    // One at a time is kept: each takes some hundred megabytes of the guest's memory.
    let original = lab.latest("converted", &variant.to_string(), |directory| {
        let root = directory.join("docker");
        lab.copy(&aufs(lab)?, &root)?;
        let storage = Storage::create(variant.target, directory, AMPLE)?;
        let options = convert(lab, &root, variant, &storage)?;
        fs::write(
            directory.join("options.json"),
            serde_json::to_vec(&options)?,
        )?;
        storage.close()
    })?;
    let directory = scratch.join("converted");
    lab.copy(&original, &directory)?;
    has_its_own_record(&directory.join("docker"))?;
    let options = serde_json::from_slice(&fs::read(directory.join("options.json"))?)?;
    let storage = Storage::attach(variant.target, &directory, AMPLE.block)?;
    Ok(Root::new(directory.join("docker"), storage, options))
}

/// What is outside of a root was copied with it, so the record of that is the copy's own.
fn has_its_own_record(root: &Path) -> Result<()> {
    let stage = root.join(".aufs2dm");
    let path = stage.join("claim.json");
    if !path.exists() {
        return Ok(());
    }
    let mut record: Value = serde_json::from_slice(&fs::read(&path)?)?;
    record["written_in"] = serde_json::json!({"inode": fs::metadata(&stage)?.ino(), "born": null});
    Ok(fs::write(&path, serde_json::to_vec(&record)?)?)
}

/// Runs the tool on a root; returns the daemon's storage options that it printed.
pub(crate) fn convert(
    lab: &Lab,
    root: &Path,
    variant: Variant,
    storage: &Storage,
) -> Result<Vec<String>> {
    convert_with(lab, root, variant, storage, &[])
}

/// The same with further options.
pub(crate) fn convert_with(
    lab: &Lab,
    root: &Path,
    variant: Variant,
    storage: &Storage,
    further: &[&str],
) -> Result<Vec<String>> {
    let printed = run(lab
        .tool()
        .arg("convert")
        .arg("--json")
        .arg("--root")
        .arg(root)
        .arg("--pidfile")
        .arg(lab.pid_file())
        .args(further)
        .args(variant.all_arguments(storage)))?;
    let summary: Value = serde_json::from_str(&printed).with_context(|| printed.clone())?;
    let options = summary["storage_opts"].clone();
    if options.is_null() && variant.target == Target::Files {
        return Ok(Vec::new()); // Docker finds its files without being told
    }
    serde_json::from_value(options).with_context(|| format!("no storage_opts in {printed}"))
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

/// Fails unless `thin_check` finds the pool's metadata clean. No thin device may be active.
pub(crate) fn thin_check(lab: &Lab, root: &Root) -> Result<()> {
    root.storage().with_metadata(root.path(), |metadata| {
        run(lab.command("thin_check").arg(metadata)).map(drop)
    })
}

/// Fails unless the file system's own checker finds every thin device clean.
pub(crate) fn check_file_systems(lab: &Lab, pool: &Pool) -> Result<()> {
    for id in pool.devices().keys() {
        let thin = pool.thin(id)?;
        let mut checker = match thin.file_system()? {
            "xfs" => lab.command("xfs_repair"),
            _ => lab.command("e2fsck"),
        };
        if thin.file_system()? == "ext4" {
            checker.arg("-f");
        }
        run(checker.arg("-n").arg(thin.path())).with_context(|| id.clone())?;
        thin.close()?;
    }
    Ok(())
}
