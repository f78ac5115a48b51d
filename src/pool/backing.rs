//! What one of this program's pools is built on: a block device, or a file that is attached to a loop device.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use super::device_error::{BusyDevice, Error};
use super::devices;
use super::refusal::Refusal;
use crate::shell::quoted;
use crate::sys::block::{self, Kind};
use crate::sys::loops::{self, Loop};
use crate::units::Bytes;

/// A block device or a file.
#[derive(Debug)]
pub(super) struct Backing {
    path: PathBuf,
    file: File,
    /// The block device's number: its own, or that of the loop device.
    rdev: u64,
    attached: Option<Loop>,
    is_file: bool,
}

impl Backing {
    /// Opens the device or file, and attaches it if it is a file.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let kind = block::kind(path).map_err(Error::io(path, "stat"))?;
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(Error::io(path, "open"))?;
        let (rdev, attached) = match kind {
            Kind::Block { rdev } => (rdev, None),
            Kind::File { .. } => {
                let attached =
                    Loop::attach(&file).map_err(Error::io(path, "attach to a loop device"))?;
                (attached.rdev(), Some(attached))
            }
            Kind::Other => return Err(Error::refused(path, Refusal::Kind)),
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            rdev,
            is_file: attached.is_some(),
            attached,
        })
    }

    /// The block device's number in the form that tables use.
    pub(super) fn number(&self) -> String {
        block::number(self.rdev)
    }

    pub(super) fn size(&self) -> Result<Bytes, Error> {
        block::size(&self.file).map_err(Error::io(&self.path, "determine the size"))
    }

    /// Checks that a pool on this device would be a new one.
    pub(super) fn expect_blank(&self) -> Result<(), Error> {
        let mut first = [0; 4096];
        block::read_direct(&self.path, 0, &mut first).map_err(Error::io(&self.path, "read"))?;
        if first == [0; 4096] {
            return Ok(());
        }
        let path = self.path.display().to_string();
        Err(Error::refused(&self.path, Refusal::NotZero { path }))
    }

    /// Marks the block device as held by the pool. A loop device is detached together with the pool.
    pub(super) fn hand_over(&mut self) {
        self.attached = None;
    }

    /// Waits until nothing holds it any more; returns what still does.
    pub(super) fn wait_until_free(&mut self) -> Vec<BusyDevice> {
        self.attached = None;
        if !self.is_file {
            return Vec::new();
        }
        let left = loops::wait_until_detached(&self.file).unwrap_or_else(|error| {
            log::warn!(
                "{}: cannot determine whether loop devices are attached: {error}",
                self.path.display()
            );
            Vec::new()
        });
        let stuck = left.iter().map(|device| BusyDevice {
            what: format!("{} is still attached", self.path.display()),
            command: format!("losetup -d {}", quoted(device)),
        });
        stuck.collect()
    }

    /// Makes what the pool wrote durable; only after the pool is removed.
    pub(super) fn flush(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(Error::io(&self.path, "flush"))
    }

    /// Makes it blank again; only if nothing holds it.
    pub(super) fn wipe(&self) -> Option<BusyDevice> {
        let wiped = self.file.write_all_at(&[0; 4096], 0);
        let error = wiped.and_then(|()| self.file.sync_all()).err()?;
        Some(self.unwiped(&error.to_string()))
    }

    /// How the operator can make it blank.
    pub(super) fn unwiped(&self, why: &str) -> BusyDevice {
        let path = self.path.display();
        BusyDevice {
            what: format!("{path} begins with the metadata of the unfinished pool: {why}"),
            command: devices::wiping(&self.path),
        }
    }

    /// The error for a file that needs to grow on a full file system.
    pub(super) fn cannot_grow(&self) -> Option<Error> {
        let meta = self.file.metadata().ok()?;
        let sparse = self.is_file && meta.blocks() < meta.len() / 512;
        let room = statvfs(&self.path).ok()?;
        // The size of one data block.
        let full = room.blocks_available() * room.fragment_size() < 65536;
        let path = self.path.clone();
        (sparse && full).then_some(Error::FileSystemFull { path })
    }
}
