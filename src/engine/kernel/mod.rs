//! Lets the kernel make the pool: thin devices by device-mapper, file systems by mounting them.

mod backing;
pub mod base;
pub mod claim;
mod device_error;
mod devices;
mod in_use;
pub mod leftovers;
mod names;
mod pool;
pub mod populate;
mod refusal;
pub mod schedule;
mod status;
mod target;
mod thin;
mod watch;

pub use device_error::{Error, Full, Stuck};
pub use names::{Names, What};
pub use pool::Pool;
pub use refusal::Refusal;
pub use status::{Live, Mode, PoolTable, Problem, Status, Usage};
pub use target::{Facts, Space, Target};
pub use thin::{Mounted, Thin};
pub use watch::Watch;
