//! The kernel engine: lets the kernel make the pool, thin devices by device-mapper and file systems by mounting them.

pub mod base;
mod begin;
mod begun;
mod build;
mod built;
pub mod claim;
mod driver_files;
mod error;
mod ordered;
mod other_root;
mod place;
mod pool_claim;
mod previous;
mod resume;
mod run;
mod same_pool;
mod still_there;
mod take_back;

pub use built::FinishedPool;
pub use error::Error;
pub use ordered::RequestedTarget;
pub use place::{Options, Place};
pub use previous::{Previous, Record};
pub use run::write;
