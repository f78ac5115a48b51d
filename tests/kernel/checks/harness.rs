//! The lab's own tests: on a devicemapper root that Docker wrote, everything must be found as Docker showed it.

use std::{fs, path::Path};

use anyhow::{Result, ensure};
use sys_mount::MountFlags;

use super::expect_none;
use crate::{
    dockerd::with_dockerd,
    lab::Lab,
    leftovers::Leftovers,
    pool::Pool,
    roots,
    support::{compare::compare, walk::walk},
    truth::Truth,
};

/// Pool, thin devices, mounts, walk and comparison all work: each chain's device holds the tree Docker showed.
pub(super) fn lab_reads_every_device_that_docker_wrote(lab: &Lab, scratch: &Path) -> Result<()> {
    let root = roots::dockers_own(lab, scratch)?;
    let truth = Truth::of_devicemapper(lab)?;
    let chains = truth.names("chain-")?;
    ensure!(chains.len() == 20, "{} chains in the truth", chains.len());
    let pool = Pool::activate(&root)?;
    let mut differences = Vec::new();
    for chain in chains {
        let thin = pool.thin(&roots::cache_id(&root, &chain)?)?;
        let target = scratch.join("mnt");
        let mounted = thin.mount(&target, MountFlags::RDONLY)?;
        let found = walk(&target.join("rootfs"));
        differences.extend(compare(&truth.tree(&format!("chain-{chain}")), &found));
        mounted.close()?;
        thin.close()?;
    }
    pool.close()?;
    expect_none("devices that Docker wrote", &differences)?;
    roots::thin_check(lab, &root)
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
    })?;
    roots::thin_check(lab, &root)
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
