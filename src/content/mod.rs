//! What a layer holds, read from its branch or from its device: entries, bytes, attributes.
//!
//! Both sides give the files of a tar by their names, so what compares, proves or exports a layer asks either.

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
