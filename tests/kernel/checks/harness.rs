//! The lab's own tests: on devicemapper roots that Docker wrote, everything must be found as Docker showed it.

use std::{fs, path::Path};

use anyhow::{Result, ensure};
use sys_mount::MountFlags;

use super::expect_none;
use crate::{
    dockerd::{Dockerd, with_dockerd},
    lab::Lab,
    leftovers::Leftovers,
    pool::Pool,
    roots::{self, Root},
    runner::directory,
    storage::{AMPLE, Storage, Target},
    support::{
        compare::{Difference, compare},
        walk::walk,
    },
    truth::Truth,
    variant::FileSystem,
};

/// Pool, thin devices, mounts, walk and comparison all work: each chain's device holds the tree Docker showed.
pub(super) fn lab_reads_every_device_that_docker_wrote(lab: &Lab, scratch: &Path) -> Result<()> {
    let root = roots::dockers_own(lab, scratch)?;
    expect_none("devices that Docker wrote", &chains(lab, scratch, &root)?)?;
    roots::thin_check(lab, &root)
}

/// The differences between each chain's device and the tree Docker showed of it.
fn chains(lab: &Lab, scratch: &Path, root: &Root) -> Result<Vec<Difference>> {
    let truth = Truth::of_devicemapper(lab)?;
    let chains = truth.names("chain-")?;
    ensure!(chains.len() == 20, "{} chains in the truth", chains.len());
    let pool = Pool::activate(root)?;
    let mut differences = Vec::new();
    for chain in chains {
        let thin = pool.thin(&roots::cache_id(root.path(), &chain)?)?;
        let target = scratch.join("mnt");
        let mounted = thin.mount(&target, MountFlags::RDONLY)?;
        let found = walk(&target.join("rootfs"));
        differences.extend(compare(&truth.tree(&format!("chain-{chain}")), &found));
        mounted.close()?;
        thin.close()?;
    }
    pool.close()?;
    Ok(differences)
}

/// Docker initialises and fills block devices and a given pool in the guest, and the lab reads them back: so what it finds
/// wrong with a converted root there is the conversion's.
pub(super) fn lab_reads_what_docker_wrote_to_devices(lab: &Lab, scratch: &Path) -> Result<()> {
    fills_and_reads(lab, scratch, (Target::Devices, FileSystem::Ext4))?;
    fills_and_reads(lab, scratch, (Target::Devices, FileSystem::Xfs))
}

/// The same on an operator's pool.
pub(super) fn lab_reads_what_docker_wrote_to_a_pool(lab: &Lab, scratch: &Path) -> Result<()> {
    fills_and_reads(lab, scratch, (Target::Pool, FileSystem::Ext4))?;
    fills_and_reads(lab, scratch, (Target::Pool, FileSystem::Xfs))
}

fn fills_and_reads(lab: &Lab, scratch: &Path, of: (Target, FileSystem)) -> Result<()> {
    let archive = lab.once("archive", |directory| {
        let root = roots::dockers_own(lab, directory)?;
        with_dockerd(lab, &root, |daemon| save_all(daemon, directory))
    })?;
    let (target, file_system) = of;
    let directory = directory(scratch, &format!("{target:?}-{file_system}"))?;
    let storage = Storage::create(target, &directory, AMPLE)?;
    let mut options = storage.dockers_options();
    options.push(format!("dm.fs={file_system}"));
    let root = Root::new(directory.join("docker"), storage, options);
    fs::create_dir(root.path())?;
    with_dockerd(lab, &root, |daemon| {
        daemon.docker(&["load", "-i", &archive.join("six.tar").to_string_lossy()])?;
        runs_a_container(daemon)
    })?;
    let mut differences = chains(lab, &directory, &root)?;
    // No layer's tar has an entry for its top: it got its time when the layer was loaded.
    differences.retain(|difference| (&*difference.path, difference.field) != (b"/", "mtime"));
    expect_none(&format!("{target:?} with {file_system}"), &differences)?;
    roots::thin_check(lab, &root)?;
    let pool = Pool::activate(&root)?;
    let base = pool.thin("base")?;
    ensure!(
        base.file_system()? == file_system.to_string(),
        "Docker made the base a {}",
        base.file_system()?
    );
    base.close()?;
    roots::check_file_systems(lab, &pool)?;
    pool.close()
}

/// Saves the six tags, whose layers are the truth's chains.
fn save_all(daemon: &Dockerd<'_>, directory: &Path) -> Result<()> {
    let tags = daemon.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"])?;
    let archive = directory.join("six.tar");
    let mut arguments = vec!["save", "-o"];
    let path = archive.to_string_lossy();
    arguments.push(&path);
    arguments.extend(tags.lines());
    daemon.docker(&arguments)?;
    Ok(())
}

/// dockerd, its containerd and runc work in the guest.
pub(super) fn lab_docker_starts_on_the_root_it_wrote(lab: &Lab, scratch: &Path) -> Result<()> {
    let root = roots::dockers_own(lab, scratch)?;
    with_dockerd(lab, &root, |daemon| {
        let tags = daemon.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"])?;
        ensure!(
            tags.lines().count() == 6 && tags.contains("lab/app:2"),
            "images: {tags}"
        );
        runs_a_container(daemon)
    })?;
    roots::thin_check(lab, &root)
}

fn runs_a_container(daemon: &Dockerd<'_>) -> Result<()> {
    let printed = daemon.docker(&[
        "run",
        "--rm",
        "--net=none",
        "lab/app:2",
        "cat",
        "/home/dev/hello",
    ])?;
    ensure!(printed == "hi\n", "the container printed {printed:?}");
    Ok(())
}

/// A check that leaves something behind fails, and what it left is gone for the next one.
pub(super) fn lab_notices_what_a_check_leaves_behind(lab: &Lab, scratch: &Path) -> Result<()> {
    let root = roots::dockers_own(lab, scratch)?;
    let before = Leftovers::now()?;
    let pool = Pool::activate(&root)?;
    let thin = pool.thin("base")?;
    let mounted = thin.mount(&scratch.join("mnt"), MountFlags::RDONLY)?;
    std::mem::forget((mounted, thin, pool));
    let noticed = before
        .compare_and_clean(lab)
        .expect_err("three kinds were left")
        .to_string();
    for kind in ["mnt", "aufs2dm-test-pool", "aufs2dm-test-1", "/dev/loop"] {
        ensure!(noticed.contains(kind), "{kind} is not in: {noticed}");
    }
    ensure!(Leftovers::now()? == before, "the cleaning left something");
    fs::remove_dir(scratch.join("mnt"))?;
    Ok(())
}
