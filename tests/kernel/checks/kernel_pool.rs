//! The kernel engine's devices: pools, thin devices and mounts come, work, fail and go as they should.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use aufs2dm::devicemapper::driver_files::FileSystem;
use aufs2dm::docker::CacheId;
use aufs2dm::pool::{DeviceError as Error, Full, Names, Pool, Problem, Target, Watch, What};
use aufs2dm::sys::device_mapper::DeviceMapper;
use aufs2dm::sys::loops;
use aufs2dm::thin::ThinId;
use aufs2dm::units::Bytes;
use nix::libc::O_DIRECT;

use crate::{
    block::{Active, Loop},
    lab::{Lab, run},
    leftovers::Leftovers,
    pool,
    roots::{self, Root},
    runner::directory,
    storage::Storage,
};

/// Makes this program hold a pool below the directory it names, until it is killed.
pub(crate) const HOLD_VARIABLE: &str = "AUFS2DM_HOLD_POOL";

/// Data blocks of all pools here.
pub(super) const BLOCK: Bytes = Bytes(64 << 10);
/// Size of the thin devices here.
pub(super) const THIN: Bytes = Bytes::mib(64);
/// What a full pool may take until it is named; the kernel's own patience is a minute.
const SECONDS: Duration = Duration::from_secs(50);

/// A Docker root in the making, with the files of its pool.
pub(super) struct Home {
    pub(super) root: PathBuf,
    pub(super) data: PathBuf,
    pub(super) metadata: PathBuf,
}

impl Home {
    pub(super) fn new(scratch: &Path, data: Bytes, metadata: Bytes) -> Result<Self> {
        let root = directory(scratch, "docker")?;
        directory(&root, "devicemapper/metadata")?;
        let files = directory(&root, "devicemapper/devicemapper")?;
        let home = Self {
            data: files.join("data"),
            metadata: files.join("metadata"),
            root,
        };
        File::create(&home.data)?.set_len(data.0)?;
        File::create(&home.metadata)?.set_len(metadata.0)?;
        Ok(home)
    }

    pub(super) fn names(&self) -> Result<Names> {
        Ok(Names::new(&self.root.join("devicemapper"), &self.root)?)
    }

    pub(super) fn pool(&self) -> Result<Pool> {
        let names = self.names()?;
        Ok(Pool::create(names, &self.data, &self.metadata, BLOCK)?)
    }

    pub(super) fn expect_blank_metadata(&self) -> Result<()> {
        let mut first = [0; 4096];
        File::open(&self.metadata)?.read_exact_at(&mut first, 0)?;
        ensure!(first == [0; 4096], "the metadata's first block is not zero");
        Ok(())
    }

    fn expect_no_loops(&self) -> Result<()> {
        for path in [&self.data, &self.metadata] {
            let left = loops::wait_until_detached(&File::open(path)?)?;
            ensure!(left.is_empty(), "{} is attached: {left:?}", path.display());
        }
        Ok(())
    }
}

pub(super) fn id(number: u32) -> ThinId {
    ThinId::new(number).expect("small")
}

pub(super) fn mkfs(lab: &Lab, device: &Path) -> Result<()> {
    run(lab.command("mkfs.ext4").args(["-q", "-F"]).arg(device)).map(drop)
}

/// A base device, a snapshot of it with a file in it, and after the end the file is in the snapshot only.
pub(super) fn kernel_pool_keeps_what_was_written_and_leaves_no_device(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let home = Home::new(scratch, Bytes::mib(256), Bytes::mib(4))?;
    let at = directory(scratch, "mnt")?;
    let content = vec![0x5a; 300_000];
    let pool = home.pool()?;
    pool.create_thin(id(1))?;
    let base = pool.activate(id(1), THIN, What::Base)?;
    mkfs(lab, base.path())?;
    base.flush()?;
    base.close()?;
    let layer = CacheId::parse(&[b'a'; 64])?;
    pool.create_snap(id(2), id(1))?;
    let thin = pool.activate(id(2), THIN, What::Layer(&layer))?;
    let mounted = thin.mount(&at, FileSystem::Ext4)?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let line = mounts.lines().find(|line| line.contains("/mnt ext4"));
    let line = line.context("not in /proc/self/mounts")?;
    for option in ["noatime", "data_err=abort", "errors=remount-ro"] {
        ensure!(line.contains(option), "no {option}: {line}");
    }
    fs::write(at.join("file"), &content)?;
    drop(mounted.dir()?);
    mounted.sync()?;
    mounted.close()?;
    thin.flush()?;
    thin.close()?;
    pool.set_transaction_id(0, 2)?;
    pool.close()?;
    home.expect_no_loops()?;

    let root = Root::new(home.root.clone(), Storage::files(), Vec::new());
    roots::thin_check(lab, &root)?;
    let pool = pool::Pool::activate(&root)?;
    ensure!(pool.status()?.starts_with("2 "), "{}", pool.status()?);
    for (number, wanted) in [(1, None), (2, Some(&content))] {
        let thin = pool.thin_number(number, THIN.0)?;
        run(lab.command("e2fsck").arg("-fn").arg(thin.path()))?;
        let mounted = thin.mount(&at, sys_mount::MountFlags::RDONLY)?;
        let found = fs::read(at.join("file")).ok();
        ensure!(found.as_ref() == wanted, "thin device {number}");
        mounted.close()?;
        thin.close()?;
    }
    pool.close()
}

/// Dropping a pool with active and mounted devices, as an error does, takes everything down.
pub(super) fn kernel_pool_that_is_dropped_leaves_nothing(lab: &Lab, scratch: &Path) -> Result<()> {
    let before = Leftovers::now()?;
    let home = Home::new(scratch, Bytes::mib(256), Bytes::mib(4))?;
    let at = directory(scratch, "mnt")?;
    let fails = || -> Result<()> {
        let pool = home.pool()?;
        let _watch = Watch::start(&pool, |_| ())?;
        pool.create_thin(id(1))?;
        let thin = pool.activate(id(1), THIN, What::Base)?;
        mkfs(lab, thin.path())?;
        let mounted = thin.mount(&at, FileSystem::Ext4)?;
        fs::write(at.join("file"), b"x")?;
        let _dir = mounted.dir()?;
        Err(anyhow!("meant to"))
    };
    let error = fails().expect_err("it always fails").to_string();
    ensure!(error == "meant to", "{error}");
    before.compare_and_clean(lab)?;
    home.expect_blank_metadata()?;
    // So the same can be done again.
    let stuck = home.pool()?.abandon();
    ensure!(stuck.is_empty(), "{stuck:?}");
    home.expect_blank_metadata()
}

/// What [`HOLD_VARIABLE`] asks for; never returns.
pub(crate) fn hold(scratch: &Path) -> ! {
    let held = || -> Result<()> {
        let home = Home::new(scratch, Bytes::mib(256), Bytes::mib(4))?;
        let pool = home.pool()?;
        pool.create_thin(id(1))?;
        let _base = pool.activate(id(1), THIN, What::Base)?;
        println!("held");
        std::io::stdout().flush()?;
        thread::sleep(Duration::from_secs(600));
        Ok(())
    };
    let outcome = held();
    eprintln!("hold: {outcome:?}");
    std::process::exit(1)
}

/// After SIGKILL, every device that is left carries the root's UUID, and with them go the loop devices.
pub(super) fn kernel_pool_of_a_killed_process_is_known_by_its_uuid(
    _: &Lab,
    scratch: &Path,
) -> Result<()> {
    let dm = DeviceMapper::open()?;
    let before = dm.list()?;
    let mut child = Command::new("/proc/self/exe")
        .env(HOLD_VARIABLE, scratch)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = [0; 5];
    let mut out = child.stdout.take().context("a pipe")?;
    let ready = std::io::Read::read_exact(&mut out, &mut said);
    child.kill()?;
    child.wait()?;
    ready.context("the holder ended early")?;
    let root = scratch.join("docker");
    let prefix = Names::uuid_prefix_of(&root)?;
    let mut left = dm.list()?;
    left.retain(|state| !before.contains(state));
    let known = left.iter().all(|state| state.uuid.starts_with(&prefix));
    ensure!(left.len() == 2 && known, "{prefix}: {left:?}");
    left.sort_by_key(|state| state.name.ends_with("-pool"));
    for state in left {
        dm.remove(&state.name)?;
    }
    for file in ["data", "metadata"] {
        let file = root.join("devicemapper/devicemapper").join(file);
        let left = loops::wait_until_detached(&File::open(&file)?)?;
        ensure!(left.is_empty(), "{left:?}");
    }
    Ok(())
}

/// Snapshots have one UUID, which xfs takes offence at unless told not to.
pub(super) fn kernel_pool_mounts_two_snapshots_of_one_xfs(lab: &Lab, scratch: &Path) -> Result<()> {
    let home = Home::new(scratch, Bytes::gib(1), Bytes::mib(4))?;
    let pool = home.pool()?;
    let size = Bytes::mib(512);
    pool.create_thin(id(1))?;
    let base = pool.activate(id(1), size, What::Base)?;
    run(lab.command("mkfs.xfs").arg("-q").arg(base.path()))?;
    base.flush()?;
    base.close()?;
    pool.create_snap(id(2), id(1))?;
    let layer = CacheId::parse(&[b'a'; 64])?;
    let base = pool.activate(id(1), size, What::Base)?;
    let thin = pool.activate(id(2), size, What::Layer(&layer))?;
    let (first, second) = (directory(scratch, "first")?, directory(scratch, "second")?);
    let mounts = [
        base.mount(&first, FileSystem::Xfs)?,
        thin.mount(&second, FileSystem::Xfs)?,
    ];
    fs::write(second.join("file"), b"x")?;
    ensure!(!first.join("file").exists(), "both show one device");
    for mounted in mounts {
        mounted.sync()?;
        mounted.close()?;
    }
    thin.flush()?;
    thin.close()?;
    base.close()?;
    Ok(pool.close()?)
}

/// A second pool of the same name and a second device of the same number are errors, and harm nothing.
pub(super) fn kernel_pool_takes_no_name_and_no_id_twice(_: &Lab, scratch: &Path) -> Result<()> {
    let home = Home::new(scratch, Bytes::mib(64), Bytes::mib(4))?;
    let pool = home.pool()?;
    pool.create_thin(id(1))?;
    let error = pool.create_thin(id(1)).expect_err("twice");
    ensure!(
        matches!(error, Error::IdTaken { id, .. } if id.value() == 1),
        "{error:?}"
    );
    let error = pool.create_snap(id(1), id(1)).expect_err("twice");
    ensure!(matches!(error, Error::IdTaken { .. }), "{error:?}");
    pool.set_transaction_id(3, 4).expect_err("it is 0");
    let error = home.pool().expect_err("not blank");
    ensure!(
        error.to_string().contains("does not begin with zeros"),
        "{error:#}"
    );
    let other = Home::new(&directory(scratch, "other")?, Bytes::mib(64), Bytes::mib(4))?;
    let error = Pool::create(home.names()?, &other.data, &other.metadata, BLOCK);
    let error = error.expect_err("its name is taken").to_string();
    ensure!(
        error.contains("a device with this name or UUID already exists"),
        "{error}"
    );
    other.expect_blank_metadata()?;
    other.expect_no_loops()?;
    pool.status()?;
    pool.close()?;
    Ok(())
}

/// Writes to each block of a device until that fails; gives up when it does not.
fn fill(device: &Path) -> Result<std::io::Error> {
    #[repr(align(4096))]
    struct Aligned([u8; 4096]);
    let buffer = Aligned([0x77; 4096]);
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(O_DIRECT)
        .open(device)?;
    for at in (0..THIN.0 * 1024).step_by(65536) {
        if let Err(error) = file.write_all_at(&buffer.0, at) {
            return Ok(error);
        }
    }
    Err(anyhow!("all could be written"))
}

/// A pool of ours that runs out of data blocks is named, by the watch and by whoever asks, and can be taken down.
pub(super) fn kernel_pool_names_a_full_data_device_in_seconds(
    _: &Lab,
    scratch: &Path,
) -> Result<()> {
    let home = Home::new(scratch, Bytes::mib(8), Bytes::mib(4))?;
    let pool = home.pool()?;
    let (tell, told) = mpsc::channel();
    let watch = Watch::start(&pool, move |problem| tell.send(problem).expect("heard"))?;
    pool.create_thin(id(1))?;
    let thin = pool.activate(id(1), THIN, What::Base)?;
    let begin = Instant::now();
    let error = fill(thin.path())?;
    let explained = pool.explain().context("no explanation")?;
    let full = matches!(
        explained,
        Error::PoolFull {
            full: Full::Data,
            ..
        }
    );
    ensure!(full, "{error} explained as {explained}");
    let heard = told.recv_timeout(SECONDS)?;
    ensure!(heard == Problem::DataFull, "{heard}");
    ensure!(begin.elapsed() < SECONDS, "took {:?}", begin.elapsed());
    drop((watch, thin));
    let error = pool.close().expect_err("full");
    ensure!(error.to_string().contains("data device is full"), "{error}");
    home.expect_blank_metadata()
}

/// A pool whose metadata device is full is named so, not just as read-only.
pub(super) fn kernel_pool_names_a_full_metadata_device(_: &Lab, scratch: &Path) -> Result<()> {
    let home = Home::new(scratch, Bytes::gib(16), Bytes::mib(2))?;
    let pool = home.pool()?;
    pool.create_thin(id(1))?;
    let size = Bytes(THIN.0 * 1024);
    let thin = pool.activate(id(1), size, What::Base)?;
    let watch = Watch::start(&pool, |_| ())?;
    let error = fill(thin.path())?;
    let status = format!("{:?}", pool.status());
    let explained = pool.explain().with_context(|| status.clone())?;
    let full = matches!(
        explained,
        Error::PoolFull {
            full: Full::Metadata,
            ..
        }
    );
    ensure!(full, "{error} explained as {explained}: {status}");
    drop((thin, watch));
    let stuck = pool.abandon();
    ensure!(stuck.is_empty(), "{stuck:?}");
    Ok(())
}

/// A pool on a sparse file has room, but the file system that the file is on has none.
pub(super) fn kernel_pool_names_the_file_whose_file_system_is_full(
    _: &Lab,
    scratch: &Path,
) -> Result<()> {
    let small = directory(scratch, "small")?;
    let _mount = sys_mount::Mount::builder()
        .fstype("tmpfs")
        .data("size=8m")
        .mount_autodrop("tmpfs", &small, sys_mount::UnmountFlags::empty())?;
    let home = Home::new(&small, Bytes::mib(256), Bytes::mib(4))?;
    let pool = home.pool()?;
    pool.create_thin(id(1))?;
    let thin = pool.activate(id(1), Bytes::gib(1), What::Base)?;
    let error = fill(thin.path())?;
    let explained = pool.explain().context("no explanation")?;
    let named = matches!(&explained, Error::FileSystemFull { path } if *path == home.data);
    ensure!(named, "{error} explained as {explained}");
    drop(thin);
    let stuck = pool.abandon();
    ensure!(stuck.is_empty(), "{stuck:?}");
    Ok(())
}

/// A pool as an operator makes it, by another hand than ours.
pub(super) struct Operator {
    pub(super) pool: Active,
    pub(super) data: Loop,
    pub(super) metadata: Loop,
}

impl Operator {
    /// Over the files of `home`, with these last words of its table.
    pub(super) fn new(home: &Home, name: &str, rest: &str) -> Result<Self> {
        let sectors = fs::metadata(&home.data)?.len() / 512;
        Self::with_sectors(home, name, rest, sectors)
    }

    /// On the beginning of the data file.
    fn with_sectors(home: &Home, name: &str, rest: &str, sectors: u64) -> Result<Self> {
        let (data, metadata) = (Loop::attach(&home.data)?, Loop::attach(&home.metadata)?);
        let paths = (metadata.path().display(), data.path().display());
        let table = format!("{} {} {rest}", paths.0, paths.1);
        let pool = Active::create(name, sectors, ("thin-pool", &table))?;
        Ok(Self {
            pool,
            data,
            metadata,
        })
    }

    pub(super) fn close(self) -> Result<()> {
        self.pool.close()?;
        self.data.close()?;
        self.metadata.close()
    }
}

fn table_of(lab: &Lab, name: &str) -> Result<String> {
    run(lab.command("dmsetup").args(["table", name]))
}

/// Full pools that queue writes do so for ever, until this is dropped.
struct NoTimeout(Vec<u8>);

impl NoTimeout {
    const PARAMETER: &str = "/sys/module/dm_thin_pool/parameters/no_space_timeout";

    fn set() -> Result<Self> {
        let before = fs::read(Self::PARAMETER)?;
        fs::write(Self::PARAMETER, "0")?;
        Ok(Self(before))
    }
}

impl Drop for NoTimeout {
    fn drop(&mut self) {
        let _ = fs::write(Self::PARAMETER, &self.0);
    }
}

/// The operator's pool queues writes when it is full, for ever: the watch ends that, and afterwards it is as it was.
pub(super) fn kernel_pool_ends_writes_that_hang_in_the_operators_pool(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let name = "aufs2dm-test-operator";
    let _forever = NoTimeout::set()?;
    let home = Home::new(scratch, Bytes::mib(16), Bytes::mib(4))?;
    let operator = Operator::new(&home, name, "128 0 1 skip_block_zeroing")?;
    let table = table_of(lab, name)?;
    let target = Target::ThinPool {
        path: Path::new("/dev/mapper").join(name),
    };
    target.check()?;
    let at = directory(scratch, "mnt")?;
    let pool = Pool::adopt(home.names()?, &operator.pool.path())?;
    let (tell, told) = mpsc::channel();
    let watch = Watch::start(&pool, move |problem| tell.send(problem).expect("heard"))?;
    pool.create_thin(id(1))?;
    pool.set_transaction_id(0, 1)?;
    let thin = pool.activate(id(1), THIN, What::Base)?;
    mkfs(lab, thin.path())?;
    let mounted = thin.mount(&at, FileSystem::Ext4)?;
    let begin = Instant::now();
    let mut file = File::create(at.join("large"))?;
    let content = vec![0x11; 1 << 20];
    let wrote = (0..48)
        .try_for_each(|_| file.write_all(&content))
        .and_then(|()| file.sync_all());
    drop(file);
    let took = begin.elapsed();
    ensure!(wrote.is_err(), "48 MiB went into a pool of 16");
    ensure!(took < SECONDS, "took {took:?}");
    mounted.sync().expect_err("the file system lost writes");
    ensure!(told.recv_timeout(SECONDS)? == Problem::DataFull);
    let explained = pool.explain().context("no explanation")?;
    ensure!(
        explained.to_string().contains("its data device is full"),
        "{explained}"
    );
    ensure!(table_of(lab, name)? != table, "the table was not changed");
    drop(mounted);
    drop((thin, watch));
    let stuck = pool.abandon();
    ensure!(stuck.is_empty(), "{stuck:?}");
    let after = table_of(lab, name)?;
    ensure!(after == table, "table before: {table}after: {after}");
    let facts = target.check().context("the pool is not as it was")?;
    ensure!(facts.transaction_id == 0, "{facts:?}");
    operator.close()
}

/// Whoever extends the operator's pool during the run keeps what was added, when writes then hang in it all the same.
pub(super) fn kernel_pool_that_is_extended_meanwhile_stays_so(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let name = "aufs2dm-test-operator";
    let _forever = NoTimeout::set()?;
    let home = Home::new(scratch, Bytes::mib(16), Bytes::mib(4))?;
    // LVM extends the device below by another segment; here the pool has but a part of the device at first.
    let operator = Operator::with_sectors(&home, name, "128 0 1 skip_block_zeroing", 16384)?;
    let pool = Pool::adopt(home.names()?, &operator.pool.path())?;
    let before = table_of(lab, name)?;
    let longer = before.replacen(" 16384 ", " 32768 ", 1);
    ensure!(longer != before, "{before}");
    for words in [
        &["reload", name, "--table", longer.trim()][..],
        &["suspend", "--noflush", "--noudevsync", name],
        &["resume", "--noudevsync", name],
    ] {
        run(lab.command("dmsetup").args(words))?;
    }
    let (tell, told) = mpsc::channel();
    let watch = Watch::start(&pool, move |problem| tell.send(problem).expect("heard"))?;
    pool.create_thin(id(1))?;
    let thin = pool.activate(id(1), THIN, What::Base)?;
    let refused = fill(thin.path())?;
    ensure!(
        told.recv_timeout(SECONDS)? == Problem::DataFull,
        "{refused}"
    );
    drop((thin, watch));
    let stuck = pool.abandon();
    ensure!(stuck.is_empty(), "{stuck:?}");
    let after = table_of(lab, name)?;
    ensure!(after == longer, "table before: {longer}after: {after}");
    operator.close()
}

/// A write that the disk below refuses is noticed by `sync` or `flush`, though the program's own write went well.
pub(super) fn kernel_pool_notices_a_write_that_failed_below(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let home = Home::new(scratch, Bytes::mib(256), Bytes::mib(4))?;
    let at = directory(scratch, "mnt")?;
    let disk = Loop::attach(&home.data)?;
    let sectors = Bytes::mib(256).sectors().0;
    let name = "aufs2dm-test-disk";
    let device = Active::create(
        name,
        sectors,
        ("linear", &format!("{} 0", disk.path().display())),
    )?;
    let pool = Pool::create(home.names()?, &device.path(), &home.metadata, BLOCK)?;
    pool.create_thin(id(1))?;
    let thin = pool.activate(id(1), THIN, What::Base)?;
    mkfs(lab, thin.path())?;
    thin.flush()?;
    let mounted = thin.mount(&at, FileSystem::Ext4)?;
    let mut file = File::create(at.join("file"))?;
    mounted.sync()?;
    let error_table = format!("0 {sectors} error");
    for words in [
        &["reload", name, "--table", &error_table][..],
        &["suspend", "--noflush", "--nolockfs", "--noudevsync", name],
        &["resume", "--noudevsync", name],
    ] {
        run(lab.command("dmsetup").args(words))?;
    }
    file.write_all(&vec![1; 1 << 20])?;
    drop(file);
    let error = mounted.sync().expect_err("nothing reached the disk");
    ensure!(matches!(error, Error::FileSystemFailed { .. }), "{error:?}");
    drop(mounted);
    drop(thin);
    let stuck = pool.abandon();
    ensure!(stuck.is_empty(), "{stuck:?}");
    device.close()?;
    disk.close()
}
