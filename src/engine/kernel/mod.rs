//! The kernel engine: lets the kernel make the pool, thin devices by device-mapper and file systems by mounting them.

pub mod base;
mod begin;
mod build;
pub mod claim;
mod driver_files;
mod error;
mod finished_pool;
mod job;
mod other_root;
mod place;
mod pool_claim;
mod previous;
mod requested_target;
mod resume;
mod run;
mod same_pool;
mod started_run;
mod still_there;
mod storage_opts;
mod take_back;

pub use error::Error;
pub use job::KernelEngine;
pub use previous::{Previous, Record};
pub use requested_target::RequestedTarget;
pub use storage_opts::storage_opts;
