//! Block devices as guards: loop devices and device-mapper devices.
//!
//! Dropping takes a device down; `close` does the same and tells what went wrong.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use devicemapper::{DM, DevId, Device, DmFlags, DmName, DmNameBuf, DmOptions};
use loopdev::{LoopControl, LoopDevice};

/// An attached loop device. No descriptor is kept: one that is open would hold back the detaching.
#[derive(Debug)]
pub(crate) struct Loop {
    path: PathBuf,
    file: PathBuf,
    attached: bool,
}

impl Loop {
    /// Attaches a file to any free device.
    pub(crate) fn attach(file: &Path) -> Result<Self> {
        let device = LoopControl::open()?.next_free()?;
        device
            .attach_file(file)
            .with_context(|| file.display().to_string())?;
        let path = device.path().context("a loop device has a path")?;
        Ok(Self {
            path,
            file: file.to_owned(),
            attached: true,
        })
    }

    /// The block device.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file behind it.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Detaches it; it must not be in use.
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
    sectors: u64,
    open: bool,
}

impl Active {
    /// Creates it with the table `(target, parameters)`.
    pub(crate) fn create(name: &str, sectors: u64, table: (&str, &str)) -> Result<Self> {
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
            sectors,
            open: true,
        };
        active.load(table)?;
        active.resume()?;
        Ok(active)
    }

    /// Replaces its table; what was begun before is finished under the old one.
    pub(crate) fn reload(&self, table: (&str, &str)) -> Result<()> {
        self.suspend()?;
        let loaded = self.load(table);
        self.resume().and(loaded)
    }

    /// Lets every read and write fail from now on, so that a file system on it cannot end what it began.
    pub(crate) fn cut_off(&self) -> Result<()> {
        self.load(("error", ""))?;
        self.change(DmFlags::DM_SUSPEND | DmFlags::DM_SKIP_LOCKFS | DmFlags::DM_NOFLUSH)?;
        self.resume()
    }

    fn load(&self, (target, table): (&str, &str)) -> Result<()> {
        let lines = [(0, self.sectors, target.to_owned(), table.to_owned())];
        DM::new()?
            .table_load(&self.id(), &lines, DmOptions::default())
            .with_context(|| format!("{}: {target} {table}", self.name()))?;
        Ok(())
    }

    /// Holds back all I/O; a pool commits its metadata first.
    pub(crate) fn suspend(&self) -> Result<()> {
        self.change(DmFlags::DM_SUSPEND)
    }

    /// Lets I/O go on, with the table that was loaded last.
    pub(crate) fn resume(&self) -> Result<()> {
        self.change(DmFlags::empty())
    }

    fn change(&self, flags: DmFlags) -> Result<()> {
        DM::new()?
            .device_suspend(&self.id(), DmOptions::private().set_flags(flags))
            .with_context(|| format!("{}: {flags:?}", self.name()))?;
        Ok(())
    }

    /// The target's parameters.
    pub(crate) fn table(&self) -> Result<String> {
        let options = DmOptions::default().set_flags(DmFlags::DM_STATUS_TABLE);
        let (_, lines) = DM::new()?.table_status(&self.id(), options)?;
        Ok(lines.into_iter().map(|line| line.3).collect())
    }

    /// Sends a message to the target, such as `create_snap 7 3`.
    pub(crate) fn message(&self, message: &str) -> Result<()> {
        DM::new()?
            .target_msg(&self.id(), None, message)
            .with_context(|| format!("{}: {message}", self.name()))?;
        Ok(())
    }

    /// Its name.
    pub(crate) fn name(&self) -> &DmName {
        &self.name
    }

    fn id(&self) -> DevId<'_> {
        DevId::Name(&self.name)
    }

    /// Its number, as a table refers to it.
    pub(crate) fn device(&self) -> Device {
        self.device
    }

    /// devtmpfs makes this node; the one under `/dev/mapper` would need udev.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/dm-{}", self.device.minor))
    }

    /// Deactivates it; it must not be in use.
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

/// A stable name for a device, such as udev makes for all that device-mapper has.
#[derive(Debug)]
pub(crate) struct Link {
    path: PathBuf,
    own: bool,
}

impl Link {
    /// Makes a symlink at `path` to a device, unless udev has.
    pub(crate) fn new(path: &Path, device: &Path) -> Result<Self> {
        let own = fs::canonicalize(path).ok().as_deref() != Some(device);
        if own {
            symlink(device, path).with_context(|| path.display().to_string())?;
        }
        Ok(Self {
            path: path.to_owned(),
            own,
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.own {
            let _ = fs::remove_file(&self.path);
        }
    }
}
