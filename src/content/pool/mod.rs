//! A finished pool, read from its disks: its metadata, and its thin devices as readable objects.

mod device;
mod error;
mod metadata;
mod open;

pub use device::{Place, ThinDevice};
pub use error::Error;
pub use open::{Pool, superblock};
