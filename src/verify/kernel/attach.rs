//! The active, read-only pool.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::device::Device;
use super::error::{Error, Fault};
use super::mount::ReadOnlyMount;
use crate::content::pool::Pool;
use crate::pool::target::{device_mapper_with_pools, expect_loops};
use crate::pool::{BusyDevice, DeviceError};
use crate::pool::{Mode, Names, Status, leftovers, outlast_suspension};
use crate::sys::block::{self, Kind};
use crate::sys::device_mapper::{Commit, DeviceMapper, Error as DmError, Line};
use crate::sys::loops::{self, Loop};
use crate::units::Bytes;

/// A finished pool, activated so that nothing in it can change. [`close`](Self::close) takes it down; dropping it does
/// too, as far as possible.
#[derive(Debug)]
pub struct ActiveReadOnlyPool {
    /// The device that the thin devices are on.
    pool: String,
    /// Its name, if it is not ours.
    given: Option<String>,
    marks: Marks,
    mounts: PathBuf,
    /// Our devices, in order of creation.
    made: Vec<ReadOnlyDevice>,
    files: Vec<Attachment>,
    dm: Arc<DeviceMapper>,
}

/// Prefixes of names and UUIDs, derived from the root that the pool belongs to.
#[derive(Debug)]
struct Marks {
    names: String,
    uuids: String,
}

/// A file attached to a loop device.
#[derive(Debug)]
struct Attachment {
    path: PathBuf,
    file: File,
    attached: Option<Loop>,
}

impl ActiveReadOnlyPool {
    /// Activates a pool for reading. `mounts` is an empty directory for mount points. Leftovers of a killed run of this
    /// kind are taken down first.
    ///
    /// # Errors
    ///
    /// [`Error::CannotAsk`]; [`Error::Fault`] if the kernel objects to the pool; [`Error::Leftovers`], [`Error::Io`],
    /// [`Error::DeviceMapper`].
    pub fn open(root: &Path, pool: &Pool, mounts: &Path) -> Result<Self, Error> {
        let dm = Arc::new(device_mapper_with_pools().map_err(Error::CannotAsk)?);
        let marks = Marks::of(root)?;
        leftovers::find(&marks.uuids, root)?.remove()?;
        let mut attached = Self {
            pool: String::new(),
            given: None,
            marks,
            mounts: mounts.to_owned(),
            made: Vec::new(),
            files: Vec::new(),
            dm,
        };
        match pool.active() {
            Some(active) => {
                attached.pool = block::number(active.rdev);
                attached.given = Some(active.name.clone());
            }
            None => attached.activate(pool)?,
        }
        Ok(attached)
    }

    fn activate(&mut self, pool: &Pool) -> Result<(), Error> {
        let thin = pool.thin();
        let data = self.block_device(pool.data_path())?;
        let metadata = self.block_device(pool.metadata_path())?;
        // The kernel takes a larger metadata device for one that has grown, and wants to record that.
        let exactly = thin.nr_metadata_blocks.bytes();
        let metadata = self.cut(pool.metadata_path(), metadata, exactly)?;
        let block = thin.data_block_size.0;
        let params = format!("{metadata} {data} {block} 0 1 read_only");
        let sectors = thin.nr_data_blocks.0 * block;
        let line = Line::only(sectors, "thin-pool", params);
        self.pool = self.make("pool", &line).map_err(|error| match error {
            Error::DeviceMapper(error @ (DmError::Call { .. } | DmError::Other { .. })) => {
                Error::Fault(Fault::Pool(error))
            }
            error => error,
        })?;
        self.expect_healthy()
    }

    /// Checks the status that the pool reports.
    fn expect_healthy(&self) -> Result<(), Error> {
        let name = self.marks.name("pool");
        let lines = self.dm.status(&name, Commit::No)?;
        let status = lines.first().map_or("", |line| &line.params);
        match Status::parse(status) {
            Some(Status::Live(live)) if live.mode == Mode::ReadOnly && !live.needs_check => Ok(()),
            _ => Err(Error::Fault(Fault::PoolStatus {
                status: status.to_owned(),
            })),
        }
    }

    /// The number of a block device, or of a loop device that the file is attached to.
    fn block_device(&mut self, path: &Path) -> Result<String, Error> {
        match block::kind(path).map_err(Error::io(path, "look at"))? {
            Kind::Block { rdev } => return Ok(block::number(rdev)),
            Kind::File { .. } | Kind::Other => {}
        }
        expect_loops().map_err(Error::CannotAsk)?;
        // A loop device is read-only if the file was opened read-only.
        let file = File::open(path).map_err(Error::io(path, "open"))?;
        let attached =
            Loop::attach(&file).map_err(Error::io(path, "attach it to a loop device"))?;
        let number = block::number(attached.rdev());
        self.files.push(Attachment {
            path: path.to_owned(),
            file,
            attached: Some(attached),
        });
        Ok(number)
    }

    /// The number of a device that has the first bytes of another one; that may be the other one itself.
    fn cut(&mut self, path: &Path, number: String, size: Bytes) -> Result<String, Error> {
        let found = File::open(path).and_then(|file| block::size(&file));
        if found.map_err(Error::io(path, "determine its size"))? == size {
            return Ok(number);
        }
        let line = Line::only(size.sectors().0, "linear", format!("{number} 0"));
        self.make("metadata", &line)
    }

    /// Creates a device; returns its number.
    fn make(&mut self, what: &str, line: &Line) -> Result<String, Error> {
        let made = ReadOnlyDevice::new(&self.dm, &self.marks, what, line)?;
        let number = block::number(made.rdev);
        self.made.push(made);
        Ok(number)
    }

    /// Activates a thin device, mounts it, calls `visit` with the root of its file system, and takes it down again.
    /// Several threads may call this at once, for different devices.
    ///
    /// # Errors
    ///
    /// [`Error::Fault`] if the kernel objects; [`Error::Stuck`] if the device cannot be taken down.
    pub fn with_mounted(&self, device: &Device, visit: &mut dyn FnMut(&Path)) -> Result<(), Error> {
        let params = format!("{} {}", self.pool, device.id);
        let line = Line::only(device.size.sectors().0, "thin", params);
        let what = format!("thin-{}", device.id);
        let thin = self.make_thin((&what, &line), device)?;
        let node = block::wait_for_node(thin.rdev);
        let node = node.map_err(Error::io(Path::new(&thin.name), "find its device node"))?;
        let at = self.mounts.join(&what);
        fs::create_dir_all(&at).map_err(Error::io(&at, "create"))?;
        let mounted = ReadOnlyMount::new((&node, thin.rdev), &at, device)?;
        visit(&at);
        mounted.close()?;
        thin.close()
    }

    fn make_thin(
        &self,
        (what, line): (&str, &Line),
        device: &Device,
    ) -> Result<ReadOnlyDevice, Error> {
        let make = || ReadOnlyDevice::new(&self.dm, &self.marks, what, line);
        let made = match &self.given {
            Some(name) => outlast_suspension(&self.dm, name, make),
            None => make().map_err(DeviceError::from),
        };
        made.map_err(|error| match error {
            DeviceError::DeviceMapper(source) => Error::Fault(Fault::Thin {
                device: device.clone(),
                source,
            }),
            // This says nothing about the device.
            error => Error::CannotAsk(error),
        })
    }

    /// Takes everything down.
    ///
    /// # Errors
    ///
    /// [`Error::Stuck`] with what is still there.
    pub fn close(mut self) -> Result<(), Error> {
        let mut stuck = Vec::new();
        while let Some(made) = self.made.pop() {
            if let Err(Error::Stuck(DeviceError::Stuck(left))) = made.close() {
                stuck.extend(left);
            }
        }
        for attachment in &mut self.files {
            stuck.extend(attachment.detach()?);
        }
        if stuck.is_empty() {
            return Ok(());
        }
        Err(Error::Stuck(DeviceError::Stuck(stuck)))
    }
}

impl Drop for ActiveReadOnlyPool {
    fn drop(&mut self) {
        // Later devices use earlier ones.
        while self.made.pop().is_some() {}
    }
}

impl Attachment {
    /// Detaches the file. The kernel does so in its own time, once nothing uses it any more.
    fn detach(&mut self) -> Result<Vec<BusyDevice>, Error> {
        let Some(attached) = self.attached.take() else {
            return Ok(Vec::new());
        };
        let node = attached.path().to_owned();
        drop(attached);
        let left = loops::wait_until_detached(&self.file);
        let mut left = left.map_err(Error::io(&self.path, "find its loop devices"))?;
        left.retain(|path| *path == node);
        let stuck = left.iter().map(|node| BusyDevice {
            what: format!("{} is still attached", self.path.display()),
            command: format!("losetup -d {}", node.display()),
        });
        Ok(stuck.collect())
    }
}

impl Marks {
    fn of(root: &Path) -> Result<Self, Error> {
        let uuids = Names::uuid_prefix_of(root).map_err(Error::CannotAsk)?;
        let number = uuids.trim_start_matches("AUFS2DM-");
        Ok(Self {
            names: format!("aufs2dm-verify-{number}"),
            uuids: format!("{uuids}verify-"),
        })
    }

    fn name(&self, what: &str) -> String {
        format!("{}{what}", self.names)
    }
}

/// A device of ours that is read-only.
#[derive(Debug)]
struct ReadOnlyDevice {
    dm: Arc<DeviceMapper>,
    name: String,
    rdev: u64,
    active: bool,
}

impl ReadOnlyDevice {
    fn new(
        dm: &Arc<DeviceMapper>,
        marks: &Marks,
        what: &str,
        line: &Line,
    ) -> Result<Self, DmError> {
        let name = marks.name(what);
        let uuid = format!("{}{what}", marks.uuids);
        // The kernel does not accept a pool in a read-only table; the pool's read-only feature has to do.
        let created = if line.target == "thin-pool" {
            dm.create(&name, &uuid, line)
        } else {
            dm.create_read_only(&name, &uuid, line)
        };
        let rdev = created?.rdev;
        Ok(Self {
            dm: Arc::clone(dm),
            name,
            rdev,
            active: true,
        })
    }

    fn close(mut self) -> Result<(), Error> {
        self.active = false;
        self.dm.remove(&self.name).map_err(|error| {
            let command = format!("dmsetup remove {}", self.name);
            Error::stuck(error.to_string(), command)
        })
    }
}

impl Drop for ReadOnlyDevice {
    fn drop(&mut self) {
        if self.active
            && let Err(error) = self.dm.remove(&self.name)
        {
            log::warn!(
                "{error}: {:?}. Next: dmsetup remove {}",
                error.errno(),
                self.name
            );
        }
    }
}
