//! Brings up the pool of a Docker root and its thin devices, without Docker.
//!
//! Every step is a guard: dropping takes down in reverse order, `close` does the same and tells what went wrong.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use devicemapper::{DM, DevId, Device, DmNameBuf, DmOptions};
use serde::Deserialize;
use sys_mount::{Mount, MountFlags, UnmountFlags};

use crate::{
    block::{Active, Loop},
    roots::Root,
    storage::pool_table,
};

/// Data block of every pool that Docker makes, in sectors: 64 KiB. Source: moby v20.10 devmapper/deviceset.go.
const BLOCK_SECTORS: u64 = 128;
/// Name prefix of our devices, so that Docker's own are never mistaken for them.
const PREFIX: &str = "aufs2dm-test";

/// One of Docker's `metadata/<id>` files, as far as it matters here.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct DeviceFile {
    /// The thin device's number in the pool.
    pub(crate) device_id: u32,
    /// Bytes.
    pub(crate) size: u64,
}

/// Reads all of `<root>/devicemapper/metadata`, by driver id; `base` is one of them.
pub(crate) fn read_devices(root: &Path) -> Result<BTreeMap<String, DeviceFile>> {
    let directory = root.join("devicemapper/metadata");
    let mut devices = BTreeMap::new();
    for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with("-metadata") {
            let device =
                serde_json::from_slice(&fs::read(entry.path())?).with_context(|| name.clone())?;
            devices.insert(name, device);
        }
    }
    Ok(devices)
}

/// The active pool of a root.
#[derive(Debug)]
pub(crate) struct Pool {
    /// What was activated for this and goes with it; an operator's pool was active before and stays.
    own: Option<Own>,
    name: DmNameBuf,
    device: Device,
    devices: BTreeMap<String, DeviceFile>,
}

/// A pool that nobody else keeps active. The pool goes before what it lies on.
#[derive(Debug)]
struct Own {
    pool: Active,
    loops: Vec<Loop>,
}

impl Pool {
    /// Attaches what has to be and creates the pool with Docker's own table, unless it is active already.
    pub(crate) fn activate(root: &Root) -> Result<Self> {
        let devices = read_devices(root.path())?;
        if let Some(pool) = root.storage().pool() {
            return Ok(Self {
                own: None,
                name: pool.name().to_owned(),
                device: pool.device(),
                devices,
            });
        }
        let own = Own::activate(root)?;
        Ok(Self {
            name: own.pool.name().to_owned(),
            device: own.pool.device(),
            own: Some(own),
            devices,
        })
    }

    /// A pool that is active already and that the root's storage does not know.
    pub(crate) fn given(name: &str, root: &Path) -> Result<Self> {
        let name = DmNameBuf::new(name.to_owned())?;
        let device = DM::new()?.device_info(&DevId::Name(&name))?.device();
        Ok(Self {
            own: None,
            name,
            device,
            devices: read_devices(root)?,
        })
    }

    /// The driver ids, `base` among them.
    pub(crate) fn devices(&self) -> &BTreeMap<String, DeviceFile> {
        &self.devices
    }

    /// Activates the thin device of a driver id.
    pub(crate) fn thin(&self, id: &str) -> Result<Thin> {
        let device = *self
            .devices
            .get(id)
            .with_context(|| format!("no device file for {id}"))?;
        self.thin_number(device.device_id, device.size)
    }

    /// Activates a thin device by number, `size` bytes long.
    pub(crate) fn thin_number(&self, number: u32, size: u64) -> Result<Thin> {
        let table = format!("{} {number}", self.device);
        let device = Active::create(&format!("{PREFIX}-{number}"), size / 512, ("thin", &table))?;
        Ok(Thin { device })
    }

    /// Sends a pool message, such as `create_snap 7 3`.
    pub(crate) fn message(&self, message: &str) -> Result<()> {
        let dm = DM::new()?;
        dm.target_msg(&DevId::Name(&self.name), None, message)
            .with_context(|| message.to_owned())?;
        Ok(())
    }

    /// The pool's status line.
    pub(crate) fn status(&self) -> Result<String> {
        let dm = DM::new()?;
        let (_, lines) = dm.table_status(&DevId::Name(&self.name), DmOptions::default())?;
        Ok(lines.into_iter().map(|line| line.3).collect())
    }

    /// Takes down what was activated.
    pub(crate) fn close(self) -> Result<()> {
        let Some(own) = self.own else { return Ok(()) };
        own.pool.close()?;
        own.loops.into_iter().try_for_each(Loop::close)
    }
}

impl Own {
    fn activate(root: &Root) -> Result<Self> {
        let mut loops = Vec::new();
        let (data, metadata) = if let Some((data, metadata)) = root.storage().devices() {
            (data.to_owned(), metadata.to_owned())
        } else {
            let files = root.path().join("devicemapper/devicemapper");
            for name in ["data", "metadata"] {
                loops.push(Loop::attach(&files.join(name))?);
            }
            (loops[0].path().to_owned(), loops[1].path().to_owned())
        };
        let (sectors, table) = pool_table(&data, &metadata, BLOCK_SECTORS, 32768)?;
        let pool = Active::create(&format!("{PREFIX}-pool"), sectors, ("thin-pool", &table))?;
        Ok(Self { pool, loops })
    }
}

/// An active thin device.
#[derive(Debug)]
pub(crate) struct Thin {
    device: Active,
}

impl Thin {
    /// The block device's path.
    pub(crate) fn path(&self) -> PathBuf {
        self.device.path()
    }

    /// The file system on it.
    pub(crate) fn file_system(&self) -> Result<&'static str> {
        file_system(&self.device)
    }

    /// Mounts it.
    pub(crate) fn mount(&self, target: &Path, flags: MountFlags) -> Result<Mounted> {
        mount_thin(&self.device, target, flags)
    }

    /// Lets it fail from now on: what is mounted on it is never unmounted as far as its disk knows.
    pub(crate) fn cut_off(&self) -> Result<()> {
        self.device.cut_off()
    }

    /// Deactivates it; it must not be mounted.
    pub(crate) fn close(self) -> Result<()> {
        self.device.close()
    }
}

/// The file system on a device, by its magic number. Source: moby v20.10 devmapper/mount.go.
fn file_system(device: &Active) -> Result<&'static str> {
    let file = File::open(device.path())?;
    let (mut xfs, mut ext4) = ([0; 4], [0; 2]);
    file.read_exact_at(&mut xfs, 0)?;
    file.read_exact_at(&mut ext4, 0x438)?;
    match (&xfs, ext4) {
        (b"XFSB", _) => Ok("xfs"),
        (_, [0x53, 0xef]) => Ok("ext4"),
        _ => bail!("{}: neither ext4 nor xfs", device.name()),
    }
}

/// Mounts a device of a pool.
pub(crate) fn mount_thin(device: &Active, target: &Path, flags: MountFlags) -> Result<Mounted> {
    fs::create_dir_all(target)?;
    let kind = file_system(device)?;
    let builder = Mount::builder().fstype(kind).flags(flags);
    let mount = if kind == "xfs" {
        builder.data("nouuid") // all snapshots have the base's
    } else {
        builder
    };
    let mount = mount
        .mount(device.path(), target)
        .with_context(|| format!("{} on {}", device.name(), target.display()))?;
    Ok(Mounted { mount: Some(mount) })
}

/// A mounted file system.
#[derive(Debug)]
pub(crate) struct Mounted {
    mount: Option<Mount>,
}

impl Mounted {
    /// Mounts an ext4 file system. Nothing but the tool writes to it: inode tables are not made ready behind its back.
    pub(crate) fn ext4(device: &Path, target: &Path) -> Result<Self> {
        fs::create_dir_all(target)?;
        let mount = Mount::builder()
            .fstype("ext4")
            .data("noinit_itable")
            .mount(device, target)
            .with_context(|| format!("{} on {}", device.display(), target.display()))?;
        Ok(Self { mount: Some(mount) })
    }

    /// Shows a directory at a second place.
    pub(crate) fn bind(source: &Path, target: &Path) -> Result<Self> {
        fs::create_dir_all(target)?;
        let mount = Mount::builder()
            .flags(MountFlags::BIND)
            .mount(source, target)
            .with_context(|| format!("{} on {}", source.display(), target.display()))?;
        Ok(Self { mount: Some(mount) })
    }

    /// Unmounts it.
    pub(crate) fn close(mut self) -> Result<()> {
        let mount = self.mount.take().context("mounted until closed")?;
        sys_mount::unmount(mount.target_path(), UnmountFlags::empty())
            .with_context(|| mount.target_path().display().to_string())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(mount) = &self.mount {
            let _ = sys_mount::unmount(mount.target_path(), UnmountFlags::DETACH);
        }
    }
}
