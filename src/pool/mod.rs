//! Controls the kernel's thin pools: tables, messages, thin devices, mounts, and what a killed run left of them.

mod active_pool;
mod backing;
pub(super) mod device_error;
pub(super) mod devices;
mod facts;
mod in_use;
pub mod leftovers;
mod lvm;
mod names;
mod pool_handle;
mod refusal;
mod status;
mod suspended;
pub(super) mod target;
mod thin_device;
mod thin_pool;
mod watch;

pub use active_pool::ActivePool;
pub use device_error::{BusyDevice, Error as DeviceError, Full};
pub use facts::{Facts, Space};
pub use lvm::volume_at;
pub use names::{Names, What};
pub use refusal::Refusal;
pub use status::{Live, Mode, PoolTable, Problem, Status, Usage};
pub(crate) use suspended::outlast_suspension;
pub use target::Target;
pub use thin_device::{MountedDevice, Thin};
pub use thin_pool::Pool;
pub use watch::Watch;
