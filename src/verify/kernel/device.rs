//! A device to ask the kernel about.

use crate::devicemapper::driver_files::FileSystem;
use crate::thin::ThinId;
use crate::units::Bytes;

/// A thin device to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its device id in the pool.
    pub id: ThinId,
    /// Its size.
    pub size: Bytes,
    /// Its name in Docker's terms, for messages.
    pub name: String,
    /// The file system on it.
    pub file_system: FileSystem,
}
