//! Whole conversions, through the library.

mod changes;
mod convert;
mod pool;
mod resume;
mod shapes;
mod sharing;
mod space;

pub(crate) use convert::request;
pub(crate) use pool::{
    Dumped, Mounted, PoolFiles, Quiet, in_memory, options, subdirectory, succeed, unmount,
    with_jobs,
};
