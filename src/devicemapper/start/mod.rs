//! What the devicemapper driver and the daemon around it check when they start, tried on the files alone.

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
