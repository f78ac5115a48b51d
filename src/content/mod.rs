//! The contents of a layer, read from its branch or from its device: entries, bytes, attributes.
//!
//! Both sides provide the files of a tar by name, so the code that compares, proves or exports a layer can use either.

mod branch;
mod device;
mod halt;
mod last_mount;
mod lookup;
mod once;
pub mod pool;
mod read_job;
mod write_checksums;

pub(crate) use branch::{BranchFiles, PIECE, read_branch};
pub(crate) use device::{DeviceFiles, DeviceTree, TarFiles, is_directory, stretches};
pub(crate) use halt::Halt;
pub use last_mount::{WrittenAt, mounted_since_noted};
pub(crate) use last_mount::{last_mount, noted_at};
pub(crate) use read_job::ReadJob;
pub(crate) use write_checksums::WriteChecksums;
