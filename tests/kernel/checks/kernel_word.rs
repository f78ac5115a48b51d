//! Finished pools read back, by this program and by the kernel at its request: both agree, and no byte changes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    num::NonZeroUsize,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use aufs2dm::content::pool::Pool;
use aufs2dm::devicemapper::DeviceFiles;
use aufs2dm::ext4::read::ReadAt;
use aufs2dm::pool::Target;
use aufs2dm::progress::{Cancel, Phase, Progress};
use aufs2dm::thin::ThinId;
use aufs2dm::units::Bytes;
use aufs2dm::verify::kernel::{ActiveReadOnlyPool, Device, Error, ask};
use nix::unistd::{Whence, lseek};

use super::expect_none;
use crate::{
    lab::Lab,
    leftovers::Leftovers,
    pool,
    roots::{self, Root},
    runner::directory,
    variant::Variant,
};

/// Makes this program hold a device mounted for a look until it is killed; names the check's directory.
pub(crate) const LOOK_VARIABLE: &str = "AUFS2DM_HOLD_LOOK";

/// As much of a file is hashed, and of a device compared, at once.
const PIECE: usize = 1 << 20;

struct Quiet;

impl Progress for Quiet {
    fn start(&self, _: Phase, _: u64) {}
    fn inc(&self, _: u64) {}
    fn finish(&self) {}
}

fn target(root: &Root) -> Target {
    match (root.storage().pool(), root.storage().devices()) {
        (Some(pool), _) => Target::ThinPool {
            path: Path::new("/dev/mapper").join(pool.name().to_string()),
        },
        (None, Some((data, metadata))) => Target::Devices {
            data: data.to_owned(),
            metadata: metadata.to_owned(),
        },
        (None, None) => Target::LoopFiles,
    }
}

fn open(root: &Root) -> Result<Pool> {
    Ok(Pool::open(
        &root.path().join("devicemapper"),
        &target(root),
    )?)
}

/// All devices of a root, as its files tell.
fn devices(root: &Path) -> Result<Vec<Device>> {
    let files = DeviceFiles::read(&root.join("devicemapper"))?;
    expect_none("files of devices", &files.faults)?;
    let file_system = files.set.context("no deviceset-metadata")?.file_system;
    let base = files.base.iter().map(|device| ("base".to_owned(), device));
    let layers = files
        .layers
        .iter()
        .map(|(id, device)| (id.to_string(), device));
    base.chain(layers)
        .map(|(name, device)| {
            Ok(Device {
                id: ThinId::new(device.id().get())?,
                size: device.size(),
                name,
                file_system,
            })
        })
        .collect()
}

/// Checksums of what the pool's files hold, by path; holes are passed over.
fn digests(root: &Root, scratch: &Path) -> Result<BTreeMap<PathBuf, Vec<(u64, u32)>>> {
    let files = root.path().join("devicemapper/devicemapper");
    let loops = ["data", "metadata"].map(|name| files.join(name));
    let images = ["data.img", "metadata.img"].map(|name| scratch.join("converted").join(name));
    let there = loops.into_iter().chain(images).filter(|path| path.exists());
    there
        .map(|path| Ok((path.clone(), digest(&path)?)))
        .collect()
}

/// Of each stretch of data: where it begins, and its checksum.
fn digest(path: &Path) -> Result<Vec<(u64, u32)>> {
    let file = File::open(path)?;
    let mut sums = Vec::new();
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while let Ok(start) = lseek(&file, at, Whence::SeekData) {
        at = lseek(&file, start, Whence::SeekHole)?;
        let (mut next, end) = (u64::try_from(start)?, u64::try_from(at)?);
        let mut sum = 0;
        while next < end {
            let piece = &mut buffer[..usize::try_from(end - next)?.min(PIECE)];
            file.read_exact_at(piece, next)?;
            sum = crc32c::crc32c_append(sum, piece);
            next += piece.len() as u64;
        }
        sums.push((u64::try_from(start)?, sum));
    }
    ensure!(!sums.is_empty(), "{}: nothing in it", path.display());
    Ok(sums)
}

fn jobs() -> NonZeroUsize {
    NonZeroUsize::new(3).expect("not zero")
}

/// What was converted reads well, the kernel mounts every device of it, and shows what is in it; nothing of that changes a
/// byte, and nothing is left.
pub(super) fn the_kernels_word_is_clean_and_changes_no_byte(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    let (leftovers, before) = (Leftovers::now()?, digests(&root, scratch)?);
    let pool = open(&root)?;
    expect_none("remarks", pool.remarks().first())?;
    ensure!(pool.fault().is_none(), "{:?}", pool.fault());
    let devices = devices(root.path())?;
    ensure!(devices.len() == pool.thin().devices.len(), "other devices");
    let mounts = directory(scratch, "mounts")?;
    let attached = ActiveReadOnlyPool::open(root.path(), &pool, &mounts)?;
    let faults = ask(&attached, &devices, (jobs(), &Cancel::default()), &Quiet)?;
    expect_none("the kernel", &faults)?;
    let layers = devices.iter().filter(|device| device.name != "base");
    let mut with_files = 0;
    for device in layers.clone().take(3) {
        attached.with_mounted(device, &mut |root| {
            with_files += usize::from(root.join("rootfs").is_dir());
        })?;
    }
    attached.close()?;
    ensure!(with_files == 3, "{with_files} of 3 devices have files");
    ensure!(fs::read_dir(&mounts)?.next().is_none(), "mount points stay");
    leftovers.compare()?;
    ensure!(
        digests(&root, scratch)? == before,
        "the pool's files have changed"
    );
    let last = layers.max_by_key(|device| device.id).context("no layers")?;
    reads_like_the_kernel(&root, &pool, last)
}

/// Compares what a device maps with what the kernel reads from it.
fn reads_like_the_kernel(root: &Root, pool: &Pool, device: &Device) -> Result<()> {
    let ours = pool
        .device(device.id, device.size)
        .context("no such device")?;
    let active = pool::Pool::activate(root)?;
    let thin = active.thin(&device.name)?;
    let kernels = File::open(thin.path())?;
    let mut compared = 0;
    for place in ours.places(0..device.size.0) {
        for at in (place.offset..place.offset + place.bytes).step_by(PIECE) {
            let len = usize::try_from(place.offset + place.bytes - at)?.min(PIECE);
            let (mut a, mut b) = (vec![1; len], vec![2; len]);
            ours.read_at(&mut a, at)?;
            kernels.read_exact_at(&mut b, at)?;
            ensure!(a == b, "{}: another content at {at}", device.name);
            compared += len;
        }
    }
    drop(kernels);
    thin.close()?;
    active.close()?;
    ensure!(compared >= 1 << 20, "only {compared} bytes are mapped");
    Ok(())
}

/// The kernel objects to what is damaged, and names it; what is whole it mounts all the same.
pub(super) fn what_is_damaged_the_kernel_names(lab: &Lab, scratch: &Path) -> Result<()> {
    let root = roots::dockers_own(lab, scratch)?;
    let (mounts, devices) = (directory(scratch, "mounts")?, devices(root.path())?);
    let files = root.path().join("devicemapper/devicemapper");
    let pool = open(&root)?;
    let heard = || -> Result<Vec<String>> {
        let attached = ActiveReadOnlyPool::open(root.path(), &pool, &mounts)?;
        let faults = ask(&attached, &devices, (jobs(), &Cancel::default()), &Quiet)?;
        attached.close()?;
        Ok(faults.iter().map(ToString::to_string).collect())
    };
    expect_none("before", &heard()?)?;

    // The superblock of one device's file system, which a mount had rewritten, so that it is that device's alone.
    let spoiled = devices
        .iter()
        .max_by_key(|device| device.id)
        .context("none")?;
    let device = pool
        .device(spoiled.id, spoiled.size)
        .context("no such device")?;
    let place = device
        .places(0..4096)
        .next()
        .context("block 0 is not mapped")?;
    let data = File::options().write(true).open(files.join("data"))?;
    data.write_all_at(&[0; 1024], place.data_offset + 1024)?;
    let faults = heard()?;
    let named = format!(
        "{} (thin device {}): the kernel does not mount it",
        spoiled.name, spoiled.id
    );
    ensure!(
        faults.len() == 1 && faults[0].starts_with(&named),
        "{named}: {faults:?}"
    );

    // The root of the tree of devices, then the superblock of the pool.
    let metadata = File::options()
        .read(true)
        .write(true)
        .open(files.join("metadata"))?;
    let mut number = [0; 8];
    metadata.read_exact_at(&mut number, 328)?;
    metadata.write_all_at(&[0x55; 64], u64::from_le_bytes(number) * 4096 + 100)?;
    let faults = heard()?;
    let all = faults
        .iter()
        .filter(|fault| fault.ends_with("the kernel does not activate it"));
    ensure!(all.count() == devices.len(), "{faults:?}");
    metadata.write_all_at(&[0x55; 4], 100)?;
    let error = ActiveReadOnlyPool::open(root.path(), &pool, &mounts)
        .err()
        .context("it is damaged")?;
    ensure!(matches!(error, Error::Fault(_)), "{error:?}");
    ensure!(
        error.to_string().contains("does not activate the pool"),
        "{error}"
    );
    let error = open(&root).err().context("it is damaged")?;
    ensure!(
        format!("{error:#}").contains("block 0 (superblock)"),
        "{error:#}"
    );
    Ok(())
}

/// What [`LOOK_VARIABLE`] asks for; never returns.
pub(crate) fn hold_look(scratch: &Path) -> ! {
    let held = || -> Result<()> {
        let root = Root::new(
            scratch.join("docker"),
            crate::storage::Storage::files(),
            Vec::new(),
        );
        let pool = open(&root)?;
        let attached = ActiveReadOnlyPool::open(root.path(), &pool, &scratch.join("mounts"))?;
        let devices = devices(root.path())?;
        attached.with_mounted(&devices[0], &mut |_| {
            println!("held");
            let _ = std::io::stdout().flush();
            thread::sleep(Duration::from_secs(600));
        })?;
        Ok(())
    };
    let outcome = held();
    eprintln!("look: {outcome:?}");
    std::process::exit(1)
}

/// A look that was killed while a device was mounted is taken down by the next, wherever the mount point is.
pub(super) fn a_look_that_was_killed_is_taken_down_by_the_next(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let root = roots::dockers_own(lab, scratch)?;
    // Larger than its pool: the kernel sees only as much of it as the pool knows.
    let metadata = root.path().join("devicemapper/devicemapper/metadata");
    let file = File::options().write(true).open(&metadata)?;
    file.set_len(file.metadata()?.len() + (1 << 20))?;
    let mounts = directory(scratch, "mounts")?;
    let before = Leftovers::now()?;
    let mut child = Command::new("/proc/self/exe")
        .env(LOOK_VARIABLE, scratch)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = [0; 5];
    let mut out = child.stdout.take().context("a pipe")?;
    let ready = out.read_exact(&mut said);
    child.kill()?;
    child.wait()?;
    ready.context("the holder ended early")?;
    ensure!(before.compare().is_err(), "the killed look left nothing");
    aufs2dm::engine::kernel::Previous::find(root.path(), None)?.remove()?;
    let pool = open(&root)?;
    before.compare().context("after the next run's beginning")?;
    let attached = ActiveReadOnlyPool::open(root.path(), &pool, &mounts)?;
    let all = devices(root.path())?;
    let faults = ask(&attached, &all, (jobs(), &Cancel::default()), &Quiet)?;
    attached.close()?;
    expect_none("the kernel", &faults)?;
    before.compare()
}

/// What a real pool looks like after snapshots, writes, deletions, and with a metadata snapshot: nothing of it is a fault.
pub(super) fn pools_that_the_kernel_has_used_are_read(lab: &Lab, scratch: &Path) -> Result<()> {
    let root = roots::dockers_own(lab, scratch)?;
    let mounts = directory(scratch, "mnt")?;
    let active = pool::Pool::activate(&root)?;
    let size = 1 << 30;
    let fill = |number: u32, first: usize| -> Result<()> {
        let thin = active.thin_number(number, size)?;
        let mounted = thin.mount(&mounts, sys_mount::MountFlags::empty())?;
        for file in first..first + 30 {
            fs::write(mounts.join(format!("file{file}")), vec![7; 200_000])?;
        }
        mounted.close()?;
        thin.close()
    };
    for round in 0..6 {
        active.message(&format!("create_snap {} {}", 100 + round, 2 + round))?;
        fill(100 + round, 0)?;
    }
    for round in (0..6).step_by(2) {
        active.message(&format!("delete {}", 100 + round))?;
    }
    // An active pool is read as it is, but not one that something uses.
    let idle = open(&root)?;
    ensure!(
        idle.active().is_some() && idle.fault().is_none(),
        "{:?}",
        idle.fault()
    );
    let thin = active.thin_number(101, size)?;
    let error = open(&root).err().context("a thin device is active")?;
    ensure!(format!("{error:#}").contains("in use"), "{error:#}");
    thin.close()?;
    active.message("reserve_metadata_snap")?;
    active.message("create_snap 200 101")?;
    fill(200, 30)?;
    active.message("delete 103")?;
    active.close()?;

    let pool = open(&root)?;
    let remarks: Vec<_> = pool
        .remarks()
        .first()
        .iter()
        .map(ToString::to_string)
        .collect();
    ensure!(
        remarks.len() == 1 && remarks[0].contains("held metadata snapshot"),
        "{remarks:?}"
    );
    ensure!(pool.fault().is_none(), "{:?}", pool.fault());
    roots::thin_check(lab, &root)?;
    let id = ThinId::new(200)?;
    ensure!(
        pool.device(id, Bytes(size)).is_some(),
        "device 200 is not there"
    );

    let active = pool::Pool::activate(&root)?;
    active.message("release_metadata_snap")?;
    active.close()?;
    let pool = open(&root)?;
    expect_none("remarks", pool.remarks().first())?;
    ensure!(pool.fault().is_none(), "{:?}", pool.fault());
    Ok(())
}
