//! The direct engine: writes a layout into the pool's two files without the kernel's help.

mod data;
mod error;
mod file;
mod gather;
mod job;
mod metadata;
mod reflink;
mod run;
mod target;
mod unit;

pub use error::Error;
pub use job::DirectEngine;
pub use run::write;
pub use target::Target;
