//! Makes the devices of a plan in a pool: the base device, then each layer as a snapshot of its parent.

use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use uuid::Uuid;

use super::base;
use super::claim::Claim;
use super::error::Error;
use crate::devicemapper::{ID_FILE, ROOTFS};
use crate::engine::Options;
use crate::engine::checkpoint::Ledger;
use crate::plan::{DeviceIndex, Plan, PlannedDevice};
use crate::pool::DeviceError;
use crate::pool::{MountedDevice, Pool, Thin, What};
use crate::progress::Progress;
use crate::schedule::run_parents_first;
use crate::source::Layer;
use crate::{populate, sys};

/// The maximum number of thin devices that are active, and of file systems that are mounted, at the same time.
const MOST_ACTIVE: usize = 16;

/// The default of mke2fs, unless its configuration says otherwise.
const DEFAULT_BYTES_PER_INODE: u32 = 16384;

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// The state that the threads of the layers share.
pub(super) struct Build<'a> {
    pub(super) plan: &'a Plan,
    pub(super) pool: &'a Pool,
    /// An empty directory for mount points.
    pub(super) mounts: &'a Path,
    pub(super) options: &'a Options<'a>,
    /// The programs that make the base device's file system.
    pub(super) programs: &'a base::Programs,
    /// The threads that copy the files of all layers in progress.
    pub(super) copiers: &'a rayon::ThreadPool,
    pub(super) progress: &'a dyn Progress,
    pub(super) ledger: Ledger<'a>,
    /// The record of the run and its directory, if it has one.
    pub(super) record: Option<(&'a Claim, &'a Path)>,
}

impl Build<'_> {
    /// Makes all devices that do not exist yet. Returns the UUID of the base file system; `base_uuid` is given if that
    /// already exists.
    pub(super) fn run(&self, base_uuid: Option<Uuid>) -> Result<Uuid, Error> {
        let uuid = match base_uuid {
            Some(uuid) => uuid,
            None => self.base()?,
        };
        let above_base = |parent: DeviceIndex| parent.0.checked_sub(1);
        let parents: Vec<_> = self.plan.devices[1..]
            .iter()
            .map(|device| device.parent.and_then(above_base))
            .collect();
        let most = NonZeroUsize::new(MOST_ACTIVE).expect("it is not 0");
        run_parents_first(&parents, self.options.jobs.min(most), |at| {
            self.layer_unless_done(DeviceIndex(at + 1))
        })?;
        self.ledger.tell(|| self.sync())?;
        Ok(uuid)
    }

    fn base(&self) -> Result<Uuid, Error> {
        let id = self.plan.devices[0].thin_id;
        self.pool.create_thin(id)?;
        let thin = self.pool.activate(id, self.plan.base_size, What::Base)?;
        let options = base::Options {
            bytes_per_inode: (self.plan.bytes_per_inode != DEFAULT_BYTES_PER_INODE)
                .then_some(self.plan.bytes_per_inode),
            cancel: self.options.cancel.clone(),
        };
        let made = base::mkfs::make(self.programs, thin.path(), &options);
        let flushed = thin.flush();
        let closed = thin.close();
        let uuid = made?;
        flushed?;
        closed?;
        if let Some((claim, stage)) = self.record {
            claim.clone().with_base(uuid).write(stage)?;
        }
        self.complete(DeviceIndex(0))?;
        Ok(uuid)
    }

    fn layer_unless_done(&self, device: DeviceIndex) -> Result<(), Error> {
        if !self.options.checkpoints.is_done(device) {
            self.layer(device.0)?;
            return self.complete(device);
        }
        let layer = self.plan.devices[device.0].layer.as_ref();
        let bytes = layer.map_or(0, |layer| populate::data_bytes(&layer.tree));
        self.progress.inc(bytes);
        Ok(())
    }

    /// Marks a device as complete. It is already unmounted, flushed and deactivated.
    ///
    /// That flush alone makes it durable. If the pool's metadata changed for the device since the last commit, the
    /// kernel commits before it passes the flush on to the data device; otherwise an earlier commit included
    /// everything. Loop devices turn each flush into an `fsync` of their file. The commit before the device is recorded
    /// also asks the pool whether it still works: a pool that failed reverts what it had reported as done.
    /// Source: linux v3.10 and v6.6 `drivers/md/dm-thin.c`, `issue`, `process_deferred_bios`, `pool_status`;
    /// `drivers/block/loop.c`, `lo_req_flush` (v3.10 `do_bio_filebacked`).
    fn complete(&self, device: DeviceIndex) -> Result<(), Error> {
        self.ledger.complete(device);
        self.ledger.tell_when_due(|| self.sync())
    }

    fn sync(&self) -> Result<(), Error> {
        Ok(self.pool.commit()?)
    }

    /// Makes a layer's device: a snapshot of the parent's device, which is changed and deactivated again, so that the
    /// next snapshot is of what is on the disk.
    fn layer(&self, at: usize) -> Result<(), Error> {
        if self.options.cancel.is_set() {
            return Err(Error::Interrupted);
        }
        let device = &self.plan.devices[at];
        let (Some(layer), Some(DeviceIndex(parent))) = (&device.layer, device.parent) else {
            unreachable!("all devices but the first are layers, and have a parent")
        };
        log::info!("layer {}: thin device {}", layer.id, device.thin_id.value());
        let origin = self.plan.devices[parent].thin_id;
        self.pool.create_snap(device.thin_id, origin)?;
        let size = self.plan.base_size;
        let thin = self
            .pool
            .activate(device.thin_id, size, What::Layer(&layer.id))?;
        let filled = self.fill(&thin, device, layer);
        let closed = thin.close();
        filled?;
        closed?;
        log::debug!("layer {}: done", layer.id);
        Ok(())
    }

    fn fill(&self, thin: &Thin, device: &PlannedDevice, layer: &Layer) -> Result<(), Error> {
        let at = self.mounts.join(device.thin_id.value().to_string());
        fs::create_dir(&at).map_err(Error::io(&at, "create"))?;
        let mounted = thin.mount(&at, self.plan.file_system)?;
        let applied = self.apply(&mounted, &at, layer);
        let closed = mounted.close();
        applied?;
        closed?;
        fs::remove_dir(&at).map_err(Error::io(&at, "remove"))?;
        // Flushes what the file system itself did not: it was mounted without barriers.
        thin.flush()?;
        Ok(())
    }

    fn apply(&self, mounted: &MountedDevice<'_>, at: &Path, layer: &Layer) -> Result<(), Error> {
        let rootfs = open_rootfs(&mounted.dir()?, at, layer)?;
        let run = populate::ApplyOptions {
            pool: self.copiers,
            cancel: &self.options.cancel,
            progress: self.progress,
        };
        populate::apply(layer, &rootfs, &run)?;
        mounted.sync()?;
        if !sys::syncfs_tells_errors() {
            populate::sync_files(layer, &rootfs, &run)?;
        }
        Ok(())
    }
}

/// Opens the directory of the layer's tree. For a layer without a parent, creates it first, and beside it the file with
/// which Docker marks the first device of a chain.
fn open_rootfs(root: &OwnedFd, at: &Path, layer: &Layer) -> Result<OwnedFd, Error> {
    // The file is on the thin device, so it is the device's error.
    let io = |name: &str, op| {
        let path = at.join(name);
        move |errno: Errno| Error::Device(DeviceError::io(&path, op)(errno.into()))
    };
    if layer.parent.is_none() {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let id = openat(root, ID_FILE, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(io(ID_FILE, "create"))?;
        fs::File::from(id)
            .write_all(layer.id.as_str().as_bytes())
            .map_err(DeviceError::io(&at.join(ID_FILE), "write"))?;
        mkdirat(root, ROOTFS, Mode::S_IRWXU).map_err(io(ROOTFS, "create"))?;
    }
    openat(root, ROOTFS, DIRECTORY, Mode::empty()).map_err(io(ROOTFS, "open"))
}
