//! Brings up the pool of a Docker root and its thin devices, without Docker.
//!
//! Every step is a guard: dropping takes down in reverse order, `close` does the same and tells what went wrong.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use devicemapper::{DM, DevId, Device, DmFlags, DmName, DmNameBuf, DmOptions};
use loopdev::{LoopControl, LoopDevice};
use serde::Deserialize;
use sys_mount::{Mount, MountFlags, UnmountFlags};

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

/// An active pool over a root's `data` and `metadata` files.
#[derive(Debug)]
pub(crate) struct Pool {
    device: Active,
    data: Loop,
    metadata: Loop,
    devices: BTreeMap<String, DeviceFile>,
}

impl Pool {
    /// Attaches the files and creates the pool, with Docker's own table.
    pub(crate) fn activate(root: &Path) -> Result<Self> {
        let files = root.join("devicemapper/devicemapper");
        let sectors = fs::metadata(files.join("data"))?.len() / 512;
        let data = Loop::attach(&files.join("data"))?;
        let metadata = Loop::attach(&files.join("metadata"))?;
        let table = format!(
            "{} {} {BLOCK_SECTORS} 32768 1 skip_block_zeroing",
            metadata.path.display(),
            data.path.display()
        );
        let device = Active::create(&format!("{PREFIX}-pool"), sectors, ("thin-pool", &table))?;
        Ok(Self {
            device,
            data,
            metadata,
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
        let table = format!("{} {number}", self.device.device);
        let device = Active::create(&format!("{PREFIX}-{number}"), size / 512, ("thin", &table))?;
        Ok(Thin { device })
    }

    /// Sends a pool message, such as `create_snap 7 3`.
    pub(crate) fn message(&self, message: &str) -> Result<()> {
        let dm = DM::new()?;
        dm.target_msg(&DevId::Name(&self.device.name), None, message)
            .with_context(|| message.to_owned())?;
        Ok(())
    }

    /// The pool's status line.
    pub(crate) fn status(&self) -> Result<String> {
        let dm = DM::new()?;
        let (_, lines) = dm.table_status(&DevId::Name(&self.device.name), DmOptions::default())?;
        Ok(lines.into_iter().map(|line| line.3).collect())
    }

    /// Takes the pool down and detaches the files.
    pub(crate) fn close(self) -> Result<()> {
        self.device.close()?;
        self.data.close()?;
        self.metadata.close()
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

    /// Mounts it as ext4.
    pub(crate) fn mount(&self, target: &Path, flags: MountFlags) -> Result<Mounted> {
        fs::create_dir_all(target)?;
        let mount = Mount::builder()
            .fstype("ext4")
            .flags(flags)
            .mount(self.path(), target)
            .with_context(|| format!("{} on {}", self.device.name(), target.display()))?;
        Ok(Mounted { mount: Some(mount) })
    }

    /// Deactivates it; it must not be mounted.
    pub(crate) fn close(self) -> Result<()> {
        self.device.close()
    }
}

/// A mounted file system.
pub(crate) struct Mounted {
    mount: Option<Mount>,
}

impl Mounted {
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

/// An attached loop device. No descriptor is kept: one that is open would hold back the detaching.
#[derive(Debug)]
pub(crate) struct Loop {
    pub(crate) path: PathBuf,
    attached: bool,
}

impl Loop {
    /// Attaches a file.
    pub(crate) fn attach(file: &Path) -> Result<Self> {
        let device = LoopControl::open()?.next_free()?;
        device
            .attach_file(file)
            .with_context(|| file.display().to_string())?;
        let path = device.path().context("a loop device has a path")?;
        Ok(Self {
            path,
            attached: true,
        })
    }

    /// Detaches it.
    pub(crate) fn close(mut self) -> Result<()> {
        self.attached = false;
        self.detach()
    }

    fn detach(&self) -> Result<()> {
        LoopDevice::open(&self.path)?
            .detach()
            .with_context(|| self.path.display().to_string())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if self.attached {
            let _ = self.detach();
        }
    }
}

/// A device-mapper device with one target.
#[derive(Debug)]
pub(crate) struct Active {
    name: DmNameBuf,
    device: Device,
    open: bool,
}

impl Active {
    /// Makes it and sets it going.
    pub(crate) fn create(name: &str, sectors: u64, (target, table): (&str, &str)) -> Result<Self> {
        ensure!(sectors > 0, "{name}: empty");
        let dm = DM::new()?;
        let name = DmNameBuf::new(name.to_owned())?;
        let device = dm
            .device_create(&name, None, DmOptions::default())
            .with_context(|| name.to_string())?
            .device();
        let active = Self {
            name,
            device,
            open: true,
        };
        let id = DevId::Name(active.name());
        let lines = [(0, sectors, target.to_owned(), table.to_owned())];
        dm.table_load(&id, &lines, DmOptions::default())
            .with_context(|| format!("{}: {target} {table}", active.name()))?;
        // Resume: `device_suspend` without the suspend flag.
        dm.device_suspend(&id, DmOptions::private().set_flags(DmFlags::empty()))
            .with_context(|| format!("{}: resume", active.name()))?;
        Ok(active)
    }

    fn name(&self) -> &DmName {
        &self.name
    }

    /// devtmpfs makes this node; the one under `/dev/mapper` would need udev.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/dm-{}", self.device.minor))
    }

    /// Removes it.
    pub(crate) fn close(mut self) -> Result<()> {
        self.open = false;
        self.remove()
    }

    fn remove(&self) -> Result<()> {
        DM::new()?
            .device_remove(&DevId::Name(&self.name), DmOptions::default())
            .with_context(|| self.name().to_string())?;
        Ok(())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if self.open {
            let _ = self.remove();
        }
    }
}
