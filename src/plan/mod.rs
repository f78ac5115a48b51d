//! The conversion as a pure value: which thin device each layer becomes and how large it is ([`Plan`]). For the direct
//! engine, this also includes the content of its file system, the place of every block, and the size of the pool
//! ([`Layout`]). Nothing here reads or writes.

mod devices;
mod error;
mod fingerprint;
mod graph;
mod layout;
mod limits;
mod needs;
mod outline;
mod schedule;
mod size;
mod xfs;
mod xfs_problem;

pub use devices::{Choices, DeviceIndex, Options, Plan, PlannedDevice};
pub use error::Error;
pub use fingerprint::{Fingerprint, LayerMark, fingerprint_of};
pub use graph::{LayerGraph, LayerIndex};
pub use layout::{LaidDevice, Layout, lay_out};
pub use limits::{EntryLimit, LayerLimits, LimitProblem};
pub use needs::Needs;
pub use outline::outline_xfs;
pub use size::PoolSizes;
pub use xfs_problem::XfsProblem;
