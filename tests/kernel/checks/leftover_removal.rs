//! What a killed run leaves in the kernel: all of it goes, and nothing else.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use aufs2dm::pool::leftovers::find;
use aufs2dm::sys::loops::Loop;
use sys_mount::{Mount, UnmountFlags, unmount};

use crate::{
    killed::{POOL, THIN, UUID_PREFIX, run_and_kill},
    lab::{Lab, run},
    leftovers::Leftovers,
    runner::directory,
};

/// Mount, thin device, pool and loop devices of a process that was killed, with and without a mount namespace of its own.
pub(super) fn what_a_killed_run_left_is_found_named_and_removed(
    _: &Lab,
    scratch: &Path,
) -> Result<()> {
    for in_private_namespace in [false, true] {
        let name = format!("root private={in_private_namespace}");
        let root = directory(scratch, &name)?;
        let before = Leftovers::now()?;
        run_and_kill(&root, in_private_namespace)?;
        ensure!(
            Leftovers::now()? != before,
            "the killed process left nothing"
        );

        let left = find(UUID_PREFIX, &root)?;
        let named = left.describe();
        let mount = format!("mount {}", root.join(".aufs2dm/mnt/0").display());
        let mut expected = vec![
            format!("device-mapper device {THIN}"),
            format!("device-mapper device {POOL}"),
        ];
        if !in_private_namespace {
            expected.insert(0, mount);
        }
        let (loops, others): (Vec<_>, Vec<_>) = named
            .iter()
            .cloned()
            .partition(|line| line.starts_with("loop device /dev/loop"));
        ensure!(others == expected, "{name}: named {named:#?}");
        ensure!(loops.len() == 2, "{name}: named {named:#?}");
        ensure!(
            find(UUID_PREFIX, &root)?.describe() == named,
            "{name}: looking changed something"
        );

        left.remove()?;
        let left = find(UUID_PREFIX, &root)?;
        ensure!(left.is_empty(), "{name}: left {:#?}", left.describe());
        ensure!(
            Leftovers::now()? == before,
            "{name}: more or less than before"
        );
        left.remove()?;
    }
    Ok(())
}

/// Devices of the same name, of other roots, mounts and loop devices elsewhere.
pub(super) fn lookalikes_of_leftovers_stay(lab: &Lab, scratch: &Path) -> Result<()> {
    let root = directory(scratch, "root")?;
    let foreign = directory(&root, ".aufs2dm-old/mnt/0")?;
    let stage = directory(&root, ".aufs2dm")?;
    directory(&stage, "devicemapper/devicemapper")?;
    let error = |name: &str, uuid: Option<&str>| create_device(lab, name, uuid);
    error(THIN, None)?;
    error("of-inode-123", Some("AUFS2DM-0:99-123-base"))?;
    error("of-device-10:99", Some("AUFS2DM-10:99-12-base"))?;
    error("ours-within", Some(&format!("X-{UUID_PREFIX}base")))?;
    // The staging directory itself may be a mount point of the operator, and so may a place that only begins like it.
    for point in [&foreign, &stage] {
        Mount::builder().fstype("tmpfs").mount("tmpfs", point)?;
    }
    let loops = [
        attach(&foreign.join("data"))?,
        attach(&scratch.join("data"))?,
        attach(&scratch.join("deleted"))?,
    ];
    fs::remove_file(scratch.join("deleted"))?;
    let before = Leftovers::now()?;
    error("ours", Some(&format!("{UUID_PREFIX}base")))?;

    let left = find(UUID_PREFIX, &root)?;
    let named = left.describe();
    ensure!(named == ["device-mapper device ours"], "named {named:#?}");
    left.remove()?;
    ensure!(Leftovers::now()? == before, "a look-alike was touched");

    drop(loops);
    for name in [THIN, "of-inode-123", "of-device-10:99", "ours-within"] {
        run(lab
            .command("dmsetup")
            .args(["remove", "--noudevsync", name]))?;
    }
    for point in [&stage, &foreign] {
        unmount(point, UnmountFlags::empty())?;
    }
    Ok(())
}

/// A thin device and a loop device that something holds open; a device without a table goes.
pub(super) fn a_leftover_in_use_stays_and_is_named_with_its_command(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let root = directory(scratch, "root")?;
    let files = directory(&root, ".aufs2dm/devicemapper/devicemapper")?;
    create_device(lab, "held", Some(&format!("{UUID_PREFIX}base")))?;
    let mut bare = lab.command("dmsetup");
    bare.args(["create", "--noudevsync", "--notable", "free", "--uuid"]);
    run(bare.arg(format!("{UUID_PREFIX}layer-x")))?;
    let holder = File::open(node_of(lab, "held")?)?;
    let attached = attach(&files.join("data"))?;
    fs::remove_file(files.join("data"))?;

    let left = find(UUID_PREFIX, &root)?;
    let node = attached.path().display().to_string();
    let error = left.remove().err().context("nothing stayed")?.to_string();
    for part in [
        "device-mapper device held: Device or resource busy".to_owned(),
        "dmsetup remove 'held'".to_owned(),
        format!("loop device {node}: in use"),
        format!("losetup -d '{node}'"),
    ] {
        ensure!(error.contains(&part), "{part} is not in: {error}");
    }
    ensure!(
        !error.contains("free"),
        "it is gone, and yet named: {error}"
    );

    drop((holder, attached));
    find(UUID_PREFIX, &root)?.remove()?;
    let left = find(UUID_PREFIX, &root)?.describe();
    ensure!(left.is_empty(), "left {left:#?}");
    Ok(())
}

/// A device-mapper device of one sector that cannot be read.
fn create_device(lab: &Lab, name: &str, uuid: Option<&str>) -> Result<()> {
    let mut command = lab.command("dmsetup");
    command.args(["create", "--noudevsync", name, "--table", "0 1 error"]);
    if let Some(uuid) = uuid {
        command.args(["--uuid", uuid]);
    }
    run(&mut command).map(drop)
}

fn node_of(lab: &Lab, name: &str) -> Result<PathBuf> {
    let minor =
        run(lab
            .command("dmsetup")
            .args(["info", "-c", "--noheadings", "-o", "minor", name]))?;
    Ok(PathBuf::from(format!("/dev/dm-{}", minor.trim())))
}

fn attach(path: &Path) -> Result<Loop> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    file.set_len(1 << 20)?;
    Loop::attach(&file).with_context(|| path.display().to_string())
}
