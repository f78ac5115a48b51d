//! The file system of the base device, made with the programs and options that Docker's driver uses.

mod child;
mod error;
pub(super) mod mkfs;
mod superblock;

pub use error::{Error, Options};
pub use mkfs::{Programs, find_programs, find_programs_in, make, uuid};
