//! What the kernel engine refuses before it changes anything: machines that lack something, and targets that are not empty,
//! not in order, or in use.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::{
    block::{Active, Link},
    lab::{Lab, run},
    pool::Mounted,
    runner::directory,
    storage::{Fault, POOL_NAME, Sizes, Storage, Target, Which, pool_table},
    subject::Subject,
    variant::{FileSystem, kernel},
};

const SIZES: Sizes = Sizes {
    data: 1 << 30,
    metadata: 16 << 20,
    block: 128,
};

/// Without device-mapper, the thin-pool target, loop devices or mkfs.
pub(super) fn a_machine_that_lacks_something_is_told_what(lab: &Lab, scratch: &Path) -> Result<()> {
    let subject = Subject::new(lab, scratch)?;
    let storage = Storage::files();
    let ext4 = kernel(Target::Files, FileSystem::Ext4).all_arguments(&storage);

    let before = subject.look()?;
    let hidden = Hidden::new("/dev/mapper/control")?;
    let refused = subject.refuses(lab.tool(), &ext4, &["device-mapper"]);
    hidden.restore()?;
    refused.and_then(|()| subject.is_unharmed(&before))?;

    lab.unload_module("dm-thin-pool")?;
    let refused = subject.refuses(lab.tool(), &ext4, &["thin-pool"]);
    lab.load_module("dm-thin-pool")?;
    refused.and_then(|()| subject.is_unharmed(&before))?;

    let hidden = Hidden::new("/dev/loop-control")?;
    let refused = subject.refuses(lab.tool(), &ext4, &["loop devices"]);
    hidden.restore()?;
    refused.and_then(|()| subject.is_unharmed(&before))?;

    let nothing = directory(scratch, "nothing")?;
    let covered: Vec<_> = ["/sbin", "/usr/sbin"]
        .iter()
        .filter(|dir| Path::new(dir).join("mkfs.xfs").exists())
        .map(|dir| Mounted::bind(&nothing, &fs::canonicalize(dir)?))
        .collect::<Result<_>>()?;
    let xfs = kernel(Target::Files, FileSystem::Xfs).all_arguments(&storage);
    let mut tool = lab.tool();
    tool.env("PATH", &nothing);
    let refused = subject.refuses(tool, &xfs, &["mkfs.xfs"]);
    covered.into_iter().rev().try_for_each(Mounted::close)?;
    refused.and_then(|()| subject.is_unharmed(&before))
}

/// A file that is out of sight.
struct Hidden {
    path: PathBuf,
}

impl Hidden {
    fn new(path: &str) -> Result<Self> {
        let path = PathBuf::from(path);
        fs::rename(&path, path.with_extension("hidden"))?;
        Ok(Self { path })
    }

    fn restore(self) -> Result<()> {
        Ok(fs::rename(self.path.with_extension("hidden"), &self.path)?)
    }
}

/// Devices that are missing, the same twice, in use, or not empty.
pub(super) fn devices_that_cannot_be_used_are_refused(lab: &Lab, scratch: &Path) -> Result<()> {
    let subject = Subject::new(lab, scratch)?;
    let storage = Storage::create(Target::Devices, scratch, SIZES)?;
    let before = subject.look()?;
    let (data, metadata) = storage.devices().context("devices")?;
    let refuses = |data: &Path, metadata: &Path, words: &[&str]| {
        let arguments = given_devices(data, metadata);
        subject.refuses(lab.tool(), &arguments, words)?;
        subject.is_unharmed(&before)
    };
    refuses(Path::new("/dev/lab-none"), metadata, &["/dev/lab-none"])?;
    refuses(data, Path::new("/dev/lab-none"), &["/dev/lab-none"])?;
    refuses(data, data, &["/dev/lab-data", "two devices"])?;
    // The same device under another name.
    refuses(
        data,
        &fs::canonicalize(data)?,
        &["/dev/lab-data", "two devices"],
    )?;
    refuses(data, Path::new("/dev/null"), &["/dev/null"])?;
    storage.expect_unused(lab)?;

    run(lab.command("mkfs.ext4").arg("-q").arg(data))?;
    let point = directory(scratch, "mnt")?;
    let mount = sys_mount::Mount::builder()
        .fstype("ext4")
        .mount(data, &point)?;
    let now = subject.look()?;
    let arguments = given_devices(data, metadata);
    subject.refuses(lab.tool(), &arguments, &["/dev/lab-data"])?;
    subject.is_unharmed(&now)?;
    sys_mount::unmount(mount.target_path(), sys_mount::UnmountFlags::empty())?;
    storage.expect_unused(lab)?;

    let part = fs::File::options().write(true).open(metadata)?;
    part.write_all_at(b"something", 4000)?;
    drop(part);
    refuses(data, metadata, &["/dev/lab-metadata"])?;
    storage.close()
}

fn given_devices(data: &Path, metadata: &Path) -> Vec<OsString> {
    let words = ["--engine", "kernel", "--data-device"].map(OsString::from);
    let mut words = words.to_vec();
    words.extend([data.into(), "--metadata-device".into(), metadata.into()]);
    words
}

/// Pools that are none, not empty, suspended, read-only, in need of repair, or LVM's own.
pub(super) fn pools_that_cannot_be_used_are_refused(lab: &Lab, scratch: &Path) -> Result<()> {
    let subject = Subject::new(lab, scratch)?;
    let storage = Storage::create(Target::Pool, scratch, SIZES)?;
    let pool = storage.pool().context("a pool")?;
    let (data, metadata) = storage.devices().context("devices")?;
    let (_, table) = pool_table(data, metadata, SIZES.block, 0)?;
    let before = subject.look()?;
    let refuses = |pool: &str, words: &[&str]| {
        let arguments = given_pool(pool);
        subject.refuses(lab.tool(), &arguments, &[words, &[pool]].concat())?;
        subject
            .is_unharmed(&before)
            .with_context(|| format!("{pool} {words:?}"))
    };
    refuses("lab-none", &[])?;
    refuses("lab-data", &["thin pool"])?;

    pool.suspend()?;
    let refused = refuses(POOL_NAME, &["suspended"]);
    pool.resume()?;
    refused?;

    let read_only = table.replace("1 skip", "2 read_only skip");
    pool.reload(("thin-pool", &read_only))?;
    let status = run(lab.command("dmsetup").args(["status", POOL_NAME]))?;
    ensure!(status.contains(" ro "), "the pool is {status}");
    refuses(POOL_NAME, &["read-only"])?;
    pool.reload(("thin-pool", &table))?;

    pool.message("create_thin 5")?;
    refuses(POOL_NAME, &[])?;
    pool.message("delete 5")?;
    storage.expect_unused(lab)?;

    storage.fail(Which::Metadata, Fault::Writes)?;
    let _ = pool.message("create_thin 5"); // makes the kernel notice
    storage.mend(Which::Metadata)?;
    let status = run(lab.command("dmsetup").args(["status", POOL_NAME]))?;
    ensure!(status.contains("needs_check"), "the pool is {status}");
    refuses(POOL_NAME, &["needs a check"])?;
    storage.close()?;
    refuses_lvms_own(lab, scratch, &subject)
}

/// LVM's pool of LVM volumes: the kernel's pool is `-tpool`, and the pool's own name is a linear device.
fn refuses_lvms_own(lab: &Lab, scratch: &Path, subject: &Subject) -> Result<()> {
    let storage = Storage::create(Target::Devices, scratch, SIZES)?;
    let (data, metadata) = storage.devices().context("devices")?;
    let (sectors, table) = pool_table(data, metadata, SIZES.block, 0)?;
    let pool = Active::create("vg-lv-tpool", sectors, ("thin-pool", &table))?;
    let linear = format!("{} 0", pool.path().display());
    let wrapper = Active::create("vg-lv", sectors, ("linear", &linear))?;
    let links = [&pool, &wrapper].map(|device| {
        let path = Path::new("/dev/mapper").join(device.name().to_string());
        Link::new(&path, &device.path())
    });
    let before = subject.look()?;
    for name in ["vg-lv-tpool", "vg-lv"] {
        subject.refuses(lab.tool(), &given_pool(name), &[name])?;
        subject.is_unharmed(&before)?;
    }
    drop(links);
    wrapper.close()?;
    pool.close()?;
    storage.close()
}

fn given_pool(name: &str) -> Vec<OsString> {
    let path = Path::new("/dev/mapper").join(name);
    vec![
        "--engine".into(),
        "kernel".into(),
        "--thin-pool".into(),
        path.into(),
    ]
}
