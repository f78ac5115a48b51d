//! A file system mounted so that nothing on it can change.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::device::Device;
use super::error::{Error, Fault};
use crate::devicemapper::driver_files::FileSystem;
use crate::shell::quoted;
use crate::sys::mounts;

/// A mount, which is unmounted when this is dropped.
#[derive(Debug)]
pub(super) struct ReadOnlyMount {
    at: PathBuf,
    mounted: bool,
}

impl ReadOnlyMount {
    /// Mounts a device, given by its node and number, on a directory, which is removed at the end.
    pub(super) fn new(
        (node, rdev): (&Path, u64),
        at: &Path,
        device: &Device,
    ) -> Result<Self, Error> {
        // Neither option replays a journal. If an xfs log needs a replay, the kernel refuses the device, because it is
        // read-only: the blocks on disk are then not its actual content. For ext4, the superblock shows this. Snapshots
        // of one xfs share its UUID.
        let (kind, options) = match device.file_system {
            FileSystem::Ext4 => ("ext4", "noload"),
            FileSystem::Xfs => ("xfs", "nouuid"),
        };
        let mut this = Self {
            at: at.to_owned(),
            mounted: false,
        };
        let fault = |source| {
            Error::Fault(Fault::Mount {
                device: device.clone(),
                source,
            })
        };
        mounts::mount_read_only(node, at, kind, &[options]).map_err(|source| {
            let errno = source.raw_os_error().map(Errno::from_raw);
            if device.file_system == FileSystem::Xfs && errno == Some(Errno::EROFS) {
                let device = device.clone();
                return Error::Fault(Fault::NotUnmounted { device });
            }
            fault(source)
        })?;
        this.mounted = true;
        let shown = fs::metadata(at).map_err(fault)?.dev();
        if shown != rdev {
            return Err(fault(io::Error::other("something else is mounted there")));
        }
        Ok(this)
    }

    pub(super) fn close(mut self) -> Result<(), Error> {
        let at = &self.at;
        // If this fails, it is tried once more on drop.
        mounts::unmount(at).map_err(|error| {
            let command = format!("umount {}", quoted(at));
            Error::stuck(format!("{}: {error}", at.display()), command)
        })?;
        self.mounted = false;
        Ok(())
    }
}

impl Drop for ReadOnlyMount {
    fn drop(&mut self) {
        if self.mounted
            && let Err(error) = mounts::unmount(&self.at).or_else(|_| mounts::detach(&self.at))
        {
            log::warn!("{}: cannot be unmounted: {error}", self.at.display());
        }
        if let Err(error) = fs::remove_dir(&self.at) {
            log::debug!("{}: was not removed: {error}", self.at.display());
        }
    }
}
