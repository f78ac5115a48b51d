//! What Docker's devicemapper driver writes and expects: its small files, its options, and its checks when it starts.
//!
//! Source: moby v20.10 `daemon/graphdriver/devmapper/`.

mod device_files;
pub mod driver_files;
mod file_system_options;
mod inventory;
mod layout;
mod start;
pub(super) mod storage_option;
mod target;
mod version;

pub use device_files::{DeviceFileFault, DeviceFiles};
pub(crate) use layout::{ID_FILE, ROOTFS};
pub use start::{
    DeviceFileError, FileSizes, FileSystemIdentity, Home, Pool, Severity, StartFault, start_checks,
};
pub use target::{LoopFiles, Space, Target};
pub use version::Version;
