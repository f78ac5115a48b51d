//! The kernel engine's look at the place where the pool is to be: what suits is told, everything else is refused by name.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use aufs2dm::pool::Target;
use aufs2dm::units::Bytes;

use super::kernel_pool::{Home, Operator};
use crate::{
    block::{Active, Loop},
    lab::{Lab, run},
    runner::directory,
};

/// The operator's pool in all these checks.
const NAME: &str = "aufs2dm-test-operator";
/// The rest of its table, as Docker would make it.
const TABLE: &str = "128 0 1 skip_block_zeroing";

fn home(scratch: &Path) -> Result<Home> {
    Home::new(scratch, Bytes::mib(64), Bytes::mib(4))
}

fn pool(name: &str) -> Target {
    Target::ThinPool {
        path: Path::new("/dev/mapper").join(name),
    }
}

fn devices(data: &Path, metadata: &Path) -> Target {
    Target::Devices {
        data: data.to_owned(),
        metadata: metadata.to_owned(),
    }
}

fn expect_refusal(target: &Target, words: &str) -> Result<()> {
    let refused = target.check();
    let error = refused
        .err()
        .with_context(|| format!("accepted, not: {words}"))?;
    let text = format!("{:#}", anyhow::Error::from(error));
    ensure!(text.contains(words), "{text:?} has not: {words}");
    Ok(())
}

fn dmsetup(lab: &Lab, words: &[&str]) -> Result<()> {
    run(lab.command("dmsetup").args(words).arg("--noudevsync")).map(drop)
}

fn message(lab: &Lab, words: &str) -> Result<()> {
    dmsetup(lab, &["message", NAME, "0", words])
}

/// All three kinds, and looking changes nothing.
pub(super) fn kernel_target_that_suits_tells_its_facts(lab: &Lab, scratch: &Path) -> Result<()> {
    let facts = Target::LoopFiles.check()?;
    ensure!(
        facts.data_block == Bytes(65536) && facts.space.is_none(),
        "{facts:?}"
    );

    let home = home(scratch)?;
    let facts = devices(&home.data, &home.metadata).check()?;
    let space = facts.space.context("space")?;
    ensure!(
        (space.data, space.metadata) == (Bytes::mib(64), Bytes::mib(4)),
        "{facts:?}"
    );
    ensure!(
        facts.notices.len() == 2 && facts.notices[0].contains("losetup"),
        "{facts:?}"
    );
    let (data, metadata) = (Loop::attach(&home.data)?, Loop::attach(&home.metadata)?);
    let facts = devices(data.path(), metadata.path()).check()?;
    ensure!(facts.notices.is_empty(), "{facts:?}");
    data.close()?;
    metadata.close()?;

    let operator = Operator::new(&home, NAME, "1024 0 1 error_if_no_space")?;
    message(lab, "set_transaction_id 0 7")?;
    let before = fs::read(&home.metadata)?;
    for path in [Path::new("/dev/mapper").join(NAME), operator.pool.path()] {
        let facts = Target::ThinPool { path }.check()?;
        let told = (
            facts.data_block,
            facts.transaction_id,
            facts.pool.as_deref(),
        );
        ensure!(told == (Bytes(512 << 10), 7, Some(NAME)), "{facts:?}");
        ensure!(
            facts.space.context("space")?.data == Bytes::mib(64),
            "{facts:?}"
        );
    }
    ensure!(
        fs::read(&home.metadata)? == before,
        "looking changed the metadata"
    );
    operator.close()
}

/// Pools that are no pools, or not empty, or not well, or not free.
pub(super) fn kernel_target_refuses_pools_that_do_not_suit(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let target = pool(NAME);
    expect_refusal(&target, "does not exist")?;
    let home = home(scratch)?;
    expect_refusal(
        &Target::ThinPool {
            path: home.data.clone(),
        },
        "not a device-mapper device",
    )?;
    let disk = Loop::attach(&home.data)?;
    expect_refusal(
        &Target::ThinPool {
            path: disk.path().to_owned(),
        },
        "not a device-mapper device",
    )?;
    let table = format!("{} 0", disk.path().display());
    let linear = Active::create(NAME, 2048, ("linear", &table))?;
    expect_refusal(
        &target,
        "not a thin pool, but a device with the target linear",
    )?;
    let hidden = Active::create(&format!("{NAME}-tpool"), 2048, ("linear", &table))?;
    expect_refusal(&target, "LVM's stand-in")?;
    hidden.close()?;
    linear.close()?;
    disk.close()?;
    dmsetup(lab, &["create", NAME, "--notable"])?;
    expect_refusal(&target, "has no table")?;
    dmsetup(lab, &["remove", NAME])?;
    dmsetup(
        lab,
        &[
            "create",
            &format!("{NAME}-tpool"),
            "--uuid",
            "LVM-x-tpool",
            "--table",
            "0 8 error",
        ],
    )?;
    expect_refusal(
        &pool(&format!("{NAME}-tpool")),
        "hidden half of an LVM pool",
    )?;
    dmsetup(lab, &["remove", &format!("{NAME}-tpool")])?;

    refuses_a_pool_that_is_not_empty(lab, &home)?;
    refuses_a_pool_of_another_kind(&home)?;
    refuses_a_broken_pool(lab, &home)
}

fn wipe(home: &Home) -> Result<()> {
    let metadata = File::options().write(true).open(&home.metadata)?;
    Ok(metadata.write_all_at(&[0; 4096], 0)?)
}

fn refuses_a_pool_that_is_not_empty(lab: &Lab, home: &Home) -> Result<()> {
    let target = pool(NAME);
    let operator = Operator::new(home, NAME, TABLE)?;
    target.check()?;
    dmsetup(lab, &["suspend", NAME])?;
    expect_refusal(&target, "is suspended")?;
    dmsetup(lab, &["resume", NAME])?;
    message(lab, "reserve_metadata_snap")?;
    expect_refusal(&target, "metadata snapshot")?;
    message(lab, "release_metadata_snap")?;
    message(lab, "create_thin 5")?;
    expect_refusal(
        &target,
        "already contains thin devices (1, from number 5 on)",
    )?;
    let table = format!("{} 5", operator.pool.path().display());
    let thin = Active::create("aufs2dm-test-thin", 131_072, ("thin", &table))?;
    expect_refusal(&target, "is in use: part of /dev/mapper/aufs2dm-test-thin")?;
    fs::OpenOptions::new()
        .write(true)
        .open(thin.path())?
        .write_all_at(&[1; 4096], 0)?;
    thin.close()?;
    expect_refusal(&target, "already contains data (1 blocks)")?;
    message(lab, "delete 5")?;
    target.check().context("empty again")?;
    operator.close()
}

fn refuses_a_pool_of_another_kind(home: &Home) -> Result<()> {
    let target = pool(NAME);
    let operator = Operator::new(home, NAME, "128 0 1 read_only")?;
    expect_refusal(&target, "is read-only")?;
    operator.close()?;
    wipe(home)?;
    let operator = Operator::new(home, NAME, "65536 0")?;
    expect_refusal(&target, "data blocks of 32.0 MiB")?;
    operator.close()
}

/// A pool whose metadata could not be written.
fn refuses_a_broken_pool(lab: &Lab, home: &Home) -> Result<()> {
    wipe(home)?;
    let (data, disk) = (Loop::attach(&home.data)?, Loop::attach(&home.metadata)?);
    let linear = format!("{} 0", disk.path().display());
    let metadata = Active::create("aufs2dm-test-disk", 8192, ("linear", &linear))?;
    let table = format!(
        "{} {} {TABLE}",
        metadata.path().display(),
        data.path().display()
    );
    let operator = Active::create(NAME, 131_072, ("thin-pool", &table))?;
    pool(NAME).check()?;
    dmsetup(
        lab,
        &["reload", "aufs2dm-test-disk", "--table", "0 8192 error"],
    )?;
    dmsetup(lab, &["suspend", "--noflush", "aufs2dm-test-disk"])?;
    dmsetup(lab, &["resume", "aufs2dm-test-disk"])?;
    let _ = message(lab, "create_thin 1");
    expect_refusal(&pool(NAME), "cannot be written to")?;
    operator.close()?;
    metadata.close()?;
    data.close()?;
    disk.close()
}

/// Devices and files that are missing, in use, too small, or hold something.
pub(super) fn kernel_target_refuses_devices_that_do_not_suit(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let home = home(scratch)?;
    let (data, metadata) = (&home.data, &home.metadata);
    expect_refusal(&devices(&scratch.join("no"), metadata), "does not exist")?;
    expect_refusal(&devices(scratch, metadata), "neither a block device nor")?;
    let other_name = scratch.join("other-name");
    symlink(data, &other_name)?;
    expect_refusal(
        &devices(data, &other_name),
        "passed for both data and metadata",
    )?;
    let small = scratch.join("small");
    File::create(&small)?.set_len(1 << 20)?;
    expect_refusal(&devices(data, &small), "has only 1.0 MiB; at least 2.0 MiB")?;
    refuses_what_is_in_use(lab, scratch, &home)?;

    File::options()
        .write(true)
        .open(metadata)?
        .write_all_at(b"x", 4000)?;
    expect_refusal(&devices(data, metadata), "does not begin with zeros")?;
    wipe(&home)?;
    Operator::new(&home, NAME, TABLE)?.close()?;
    expect_refusal(&devices(data, metadata), "metadata of a thin pool")?;
    wipe(&home)?;
    devices(data, metadata).check()?;
    run(lab.command("mkfs.ext4").args(["-q", "-F"]).arg(data))?;
    expect_refusal(&devices(data, metadata), "contains a signature of ext4")?;
    expect_refusal(&devices(metadata, data), "contains a signature of ext4")
}

fn refuses_what_is_in_use(lab: &Lab, scratch: &Path, home: &Home) -> Result<()> {
    let (data, metadata) = (&home.data, &home.metadata);
    let operator = Operator::new(home, NAME, TABLE)?;
    let held = devices(operator.data.path(), operator.metadata.path());
    expect_refusal(&held, &format!("is in use: part of /dev/mapper/{NAME}"))?;
    expect_refusal(&devices(data, metadata), "is in use: attached as /dev/loop")?;
    operator.close()?;
    wipe(home)?;

    let image: PathBuf = scratch.join("image");
    File::create(&image)?.set_len(32 << 20)?;
    run(lab.command("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
    let disk = Loop::attach(&image)?;
    let at = directory(scratch, "mnt")?;
    let mount = sys_mount::Mount::builder()
        .fstype("ext4")
        .mount(disk.path(), &at)?;
    let told = expect_refusal(
        &devices(disk.path(), metadata),
        &format!("is in use: mounted on {}", at.display()),
    );
    sys_mount::unmount(mount.target_path(), sys_mount::UnmountFlags::empty())?;
    told?;
    disk.close()
}
