//! A stand-in for a run that is killed while it holds all a run can hold: loop devices, a pool, a thin device with a
//! file system, its mount.

use std::{
    convert::Infallible,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use aufs2dm::devicemapper::driver_files::FileSystem;
use aufs2dm::engine::kernel::base;
use aufs2dm::sys::device_mapper::{DeviceMapper, Line};
use aufs2dm::sys::loops::Loop;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// Names the Docker root to the process that is to be killed.
pub(crate) const ROOT_VARIABLE: &str = "AUFS2DM_KILLED";
/// The mark of the root on the devices.
pub(crate) const UUID_PREFIX: &str = "AUFS2DM-0:99-12-";
/// The thin device's name; the pool's is [`POOL`].
pub(crate) const THIN: &str = "docker-0:99-77-base";
/// The pool's name.
pub(crate) const POOL: &str = "docker-0:99-77-pool";

/// The argument that asks for a mount namespace of its own.
const PRIVATE: &str = "private";
/// Sectors of the thin device: 256 MiB.
const THIN_SECTORS: u64 = 512 << 10;
/// Sectors of the data file: 512 MiB.
const DATA_SECTORS: u64 = 1 << 20;
/// Tells that all is in place.
const READY: &str = "ready";

/// Lets a process make everything in an empty Docker root, and kills it.
pub(crate) fn run_and_kill(root: &Path, in_private_namespace: bool) -> Result<()> {
    let files = pool_files(root);
    fs::create_dir_all(&files)?;
    for (name, bytes) in [("data", DATA_SECTORS * 512), ("metadata", 16 << 20)] {
        File::create(files.join(name))?.set_len(bytes)?;
    }
    let mut command = Command::new("/proc/self/exe");
    let arguments = in_private_namespace.then_some(PRIVATE);
    let mut child = command
        .args(arguments)
        .env(ROOT_VARIABLE, root)
        .stdin(Stdio::null())
        .spawn()?;
    let begin = Instant::now();
    while !root.join(READY).exists() {
        if let Some(status) = child.try_wait()? {
            bail!("it ended by itself: {status}");
        }
        if begin.elapsed() > Duration::from_secs(120) {
            child.kill()?;
            bail!("it was not ready in two minutes");
        }
        sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Where the pool's files are in a root.
pub(crate) fn pool_files(root: &Path) -> PathBuf {
    root.join(".aufs2dm/devicemapper/devicemapper")
}

/// The process to be killed; never returns.
pub(crate) fn main(root: &Path) -> ! {
    let is_private = std::env::args().nth(1).as_deref() == Some(PRIVATE);
    let Err(error) = hold_everything(root, is_private);
    eprintln!("the process to be killed: {error:#}");
    std::process::exit(1)
}

fn hold_everything(root: &Path, is_private: bool) -> Result<Infallible> {
    const NONE: Option<&str> = None;
    if is_private {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)?;
        // As it is for the sake of access times: the loops' files are then open through this mount.
        mount(Some(root), root, NONE, MsFlags::MS_BIND, NONE)?;
    }
    let attach = |name: &str| -> Result<Loop> {
        let path = pool_files(root).join(name);
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Loop::attach(&file)?)
    };
    let (data, metadata) = (attach("data")?, attach("metadata")?);
    let dm = DeviceMapper::open()?;
    let table = format!(
        "{} {} 128 0 1 skip_block_zeroing",
        metadata.path().display(),
        data.path().display()
    );
    let line = Line::only(DATA_SECTORS, "thin-pool", table);
    let pool = dm.create(POOL, &format!("{UUID_PREFIX}pool"), &line)?;
    dm.message(POOL, "create_thin 1")?;
    let minor = nix::sys::stat::minor(pool.rdev);
    let line = Line::only(THIN_SECTORS, "thin", format!("/dev/dm-{minor} 1"));
    let thin = dm.create(THIN, &format!("{UUID_PREFIX}base"), &line)?;
    let node = PathBuf::from(format!("/dev/dm-{}", nix::sys::stat::minor(thin.rdev)));
    let programs = base::find_programs(FileSystem::Ext4)?;
    base::make(&programs, &node, &base::Options::default())?;
    let point = root.join(".aufs2dm/mnt/0");
    fs::create_dir_all(&point)?;
    mount(Some(&node), &point, Some("ext4"), MsFlags::empty(), NONE)
        .with_context(|| node.display().to_string())?;
    fs::write(point.join("file"), vec![7; 100_000])?;
    fs::write(root.join(READY), "")?;
    loop {
        std::thread::park();
    }
}
