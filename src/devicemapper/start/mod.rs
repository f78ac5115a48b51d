//! Runs the start-up checks of the devicemapper driver and of the daemon around it, on the files alone.

mod checks;
mod devices;
mod fault;
mod files;
mod severity;
mod store;
mod subject;

pub use checks::start_checks;
pub use fault::{DeviceFileError, StartFault};
pub use severity::Severity;
pub use subject::{FileSizes, FileSystemIdentity, Home, Pool};
