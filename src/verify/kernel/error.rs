//! The kernel's objections, and the reasons why it cannot be asked.

use std::io;
use std::path::Path;

use super::device::Device;
use crate::path_error::PathError;
use crate::pool::leftovers;
use crate::pool::{BusyDevice, DeviceError};
use crate::sys::device_mapper;

/// The kernel's objection to a pool or a device.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It does not activate the pool.
    #[error("the kernel does not activate the pool; its log (dmesg) may say why")]
    Pool(#[source] device_mapper::Error),
    /// The activated pool reports a problem.
    #[error("the kernel activates the pool, but reports: {status}")]
    PoolStatus {
        /// What it reports.
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
    /// It mounts the device only after a replay of its log.
    #[error("{} (thin device {}): its file system was not unmounted", device.name, device.id)]
    NotUnmounted {
        /// The device.
        device: Device,
    },
    /// The mounted file system cannot be read.
    #[error("{} (thin device {}): its file system cannot be read", device.name, device.id)]
    Read {
        /// The device.
        device: Device,
        /// What it said.
        source: io::Error,
    },
}

/// Why the kernel gave no verdict.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This kernel cannot be asked: it has no device-mapper, no thin pools or no loop devices, or this process may not
    /// use them. That says nothing about the pool.
    #[error("the kernel cannot check the pool")]
    CannotAsk(#[source] DeviceError),
    /// The kernel was asked, and objects.
    #[error(transparent)]
    Fault(Fault),
    /// Leftovers of a killed run are in the way.
    #[error(transparent)]
    Leftovers(#[from] leftovers::Error),
    /// Device-mapper fails at something unrelated to the pool.
    #[error(transparent)]
    DeviceMapper(#[from] device_mapper::Error),
    /// A file, device, loop device or mount point is unusable.
    #[error(transparent)]
    Io(#[from] PathError),
    /// Not everything could be taken down.
    #[error(transparent)]
    Stuck(DeviceError),
    /// The check was told to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    pub(super) fn io(path: &Path, op: &'static str) -> impl FnOnce(io::Error) -> Self {
        let error = PathError::on(path, op);
        move |source| error(source).into()
    }

    pub(super) fn stuck(what: String, command: String) -> Self {
        Self::Stuck(DeviceError::Stuck(vec![BusyDevice { what, command }]))
    }
}
