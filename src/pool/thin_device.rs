//! An active thin device, and the file system mounted from it.
//!
//! Both are guards: `close` removes them and reports errors; dropping does the same as far as possible, and logs
//! errors.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc::{O_DIRECTORY, O_NOFOLLOW};
use nix::sys::stat::{Mode, fchmod};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::syncfs;

use super::device_error::Error;
use super::pool_handle::PoolHandle;
use crate::devicemapper::driver_files::FileSystem;
use crate::sys::device_mapper::Line;
use crate::sys::{block, mounts};

/// Mount options for different kernels: the first text that the kernel accepts is used. A file system is worthless
/// until its layer is complete and flushed as a whole, so nothing waits for the disk's cache before that. But an error
/// must not go unnoticed.
const EXT4_OPTIONS: &[&str] = &[
    "errors=remount-ro,data_err=abort,barrier=0",
    "errors=remount-ro,barrier=0",
    "",
];

/// Snapshots share their UUID, and xfs mounts only one file system with a given UUID unless this option is set.
const XFS_OPTIONS: &[&str] = &["nouuid"];

/// An active thin device.
#[derive(Debug)]
pub struct Thin {
    pool: Arc<PoolHandle>,
    name: String,
    rdev: u64,
    path: PathBuf,
    /// Opened at the start, so that its `fsync` reports every write that failed since.
    block: Option<File>,
    active: bool,
}

impl Thin {
    pub(super) fn activate(
        pool: &Arc<PoolHandle>,
        (name, uuid): (String, &str),
        line: &Line,
    ) -> Result<Self, Error> {
        let state = pool.create_on((&name, uuid), line)?;
        let mut thin = Self {
            pool: Arc::clone(pool),
            name,
            rdev: state.rdev,
            path: PathBuf::new(),
            block: None,
            active: true,
        };
        let node = block::wait_for_node(state.rdev);
        thin.path = node.map_err(Error::io(Path::new(&thin.name), "find the device node"))?;
        let opened = File::open(&thin.path).map_err(Error::io(&thin.path, "open"))?;
        thin.block = Some(opened);
        Ok(thin)
    }

    /// Its device-mapper name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its block device, `/dev/dm-N`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Mounts its file system on a directory.
    ///
    /// # Errors
    ///
    /// [`Error::Mount`] if the kernel does not mount it, [`Error::NotMounted`] if something else appears there.
    pub fn mount(&self, at: &Path, kind: FileSystem) -> Result<MountedDevice<'_>, Error> {
        let (kind, options) = match kind {
            FileSystem::Ext4 => ("ext4", EXT4_OPTIONS),
            FileSystem::Xfs => ("xfs", XFS_OPTIONS),
        };
        mounts::mount(&self.path, at, kind, options).map_err(|source| Error::Mount {
            device: self.name.clone(),
            source,
        })?;
        let mut mounted = MountedDevice {
            thin: self,
            at: at.to_owned(),
            root: None,
            active: true,
        };
        let root = fs::OpenOptions::new()
            .read(true)
            .custom_flags(O_DIRECTORY | O_NOFOLLOW)
            .open(at)
            .map_err(Error::io(at, "open"))?;
        if root.metadata().map_err(Error::io(at, "stat"))?.dev() != self.rdev {
            return Err(Error::NotMounted {
                path: at.to_owned(),
                device: self.name.clone(),
            });
        }
        mounted.root = Some(root);
        Ok(mounted)
    }

    /// Makes everything that was written durable in the pool.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if anything written since the activation was lost.
    pub fn flush(&self) -> Result<(), Error> {
        let block = self.block.as_ref().expect("open until closed");
        block.sync_all().map_err(Error::io(&self.path, "flush"))
    }

    /// Deactivates it; it stays in the pool.
    ///
    /// # Errors
    ///
    /// [`Error::DeviceMapper`] if it is still in use.
    pub fn close(mut self) -> Result<(), Error> {
        self.remove()
    }

    fn remove(&mut self) -> Result<(), Error> {
        self.active = false;
        self.block = None;
        Ok(self.pool.dm.remove(&self.name)?)
    }
}

impl Drop for Thin {
    fn drop(&mut self) {
        if self.active
            && let Err(error) = self.remove()
        {
            // The end of the pool tries again, and reports what to do if that fails too.
            log::debug!("{error}: {:?}", std::error::Error::source(&error));
        }
    }
}

/// A mounted file system.
#[derive(Debug)]
pub struct MountedDevice<'t> {
    thin: &'t Thin,
    at: PathBuf,
    /// Opened at the start, so that `syncfs` reports every write that failed since.
    root: Option<File>,
    active: bool,
}

impl MountedDevice<'_> {
    /// Opens the file system's root directory separately. It must be closed before the file system is.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn dir(&self) -> Result<OwnedFd, Error> {
        use nix::fcntl::{OFlag, openat};
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = openat(self.root(), ".", flags, Mode::empty());
        opened.map_err(|errno| Error::io(&self.at, "open")(errno.into()))
    }

    /// Writes everything to the device, and checks that the file system did not fail.
    ///
    /// Before Linux 5.8, this does not report file data that could not be written: there, every file must be synced by
    /// itself afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::FileSystemFailed`].
    pub fn sync(&self) -> Result<(), Error> {
        let root = self.root();
        let outcome = syncfs(root).and_then(|()| {
            if fstatvfs(root)?.flags().contains(FsFlags::ST_RDONLY) {
                return Err(Errno::EROFS);
            }
            // Since Linux 6.12, a failed file system does not show this in its flags, but refuses every change. This
            // change only affects the time of a directory above all layers.
            let meta = nix::sys::stat::fstat(root)?;
            fchmod(root, Mode::from_bits_truncate(meta.st_mode))
        });
        outcome.map_err(|errno| Error::FileSystemFailed {
            device: self.thin.name.clone(),
            source: Some(errno.into()),
        })
    }

    /// Unmounts it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it is still in use after some seconds. It is removed from the directory tree anyway.
    pub fn close(mut self) -> Result<(), Error> {
        self.root = None;
        mounts::unmount(&self.at).map_err(Error::io(&self.at, "unmount"))?;
        self.active = false;
        Ok(())
    }

    fn root(&self) -> &File {
        self.root.as_ref().expect("open until closed")
    }
}

impl Drop for MountedDevice<'_> {
    fn drop(&mut self) {
        if !self.active {
            return;
        }
        self.root = None;
        let unmounted: io::Result<()> =
            mounts::unmount(&self.at).or_else(|_| mounts::detach(&self.at));
        if let Err(error) = unmounted {
            let at = self.at.display();
            log::warn!("{at}: cannot be unmounted: {error}. Next: umount {at}");
        }
    }
}
