//! Checks whether the kernel accepts the devices: it activates the pool and mounts them, all read-only.

mod ask;
mod attach;
mod device;
mod error;
mod mount;

pub use ask::{ask, sample};
pub use attach::ActiveReadOnlyPool;
pub use device::Device;
pub use error::{Error, Fault};
