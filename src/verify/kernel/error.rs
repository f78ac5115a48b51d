//! What the kernel objects to, and why it cannot be asked.

use std::io;
use std::path::{Path, PathBuf};

use super::device::Device;
use crate::pool::leftovers;
use crate::pool::{BusyDevice, DeviceError};
use crate::sys::device_mapper;

/// What the kernel objects to in a pool or a device.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It does not activate the pool.
    #[error("the kernel does not activate the pool; its log (dmesg) may say why")]
    Pool(#[source] device_mapper::Error),
    /// The pool it activated tells of a problem.
    #[error("the kernel activates the pool, but says of it: {status}")]
    PoolStatus {
        /// What it says.
        status: String,
    },
    /// It does not activate a thin device.
    #[error("{} (thin device {}): the kernel does not activate it", device.name, device.id)]
    Thin {
        /// The device.
        device: Device,
        /// What it said.
        source: device_mapper::Error,
    },
    /// It does not mount a thin device.
    #[error(
        "{} (thin device {}): the kernel does not mount it; its log (dmesg) may say why",
        device.name, device.id
    )]
    Mount {
        /// The device.
        device: Device,
        /// What it said.
        source: io::Error,
    },
    /// It mounts it only once its log is replayed.
    #[error("{} (thin device {}): its file system was not unmounted", device.name, device.id)]
    NotUnmounted {
        /// The device.
        device: Device,
    },
    /// What it mounted cannot be read.
    #[error("{} (thin device {}): its file system cannot be read", device.name, device.id)]
    Read {
        /// The device.
        device: Device,
        /// What it said.
        source: io::Error,
    },
}

/// Why the kernel's word is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This kernel cannot be asked: it has no device-mapper, no thin pools or no loop devices, or this process may not use
    /// them. It says nothing about the pool.
    #[error("the kernel cannot be asked")]
    CannotAsk(#[source] DeviceError),
    /// It was asked, and objects.
    #[error(transparent)]
    Fault(Fault),
    /// What a killed run left is in the way.
    #[error(transparent)]
    Leftovers(#[from] leftovers::Error),
    /// Device-mapper does not do what has nothing to do with the pool.
    #[error(transparent)]
    DeviceMapper(#[from] device_mapper::Error),
    /// A file, device, loop device or mount point.
    #[error("{}: cannot {op}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What was tried.
        op: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Not everything could be taken down.
    #[error(transparent)]
    Stuck(DeviceError),
    /// It was told to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    pub(super) fn io(path: &Path, op: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, op, source }
    }

    pub(super) fn stuck(what: String, command: String) -> Self {
        Self::Stuck(DeviceError::Stuck(vec![BusyDevice { what, command }]))
    }
}
