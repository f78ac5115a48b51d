//! A device that the kernel is asked about.

use crate::devicemapper::driver_files::FileSystem;
use crate::thin::ThinId;
use crate::units::Bytes;

/// A thin device to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number in the pool.
    pub id: ThinId,
    /// Its size.
    pub size: Bytes,
    /// What it is to Docker, for messages.
    pub name: String,
    /// What is on it.
    pub file_system: FileSystem,
}
