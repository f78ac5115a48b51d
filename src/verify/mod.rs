//! Verifies a root: that its devices hold what aufs had, and that this is what Docker once unpacked.
//!
//! It reads back through [`thin::read`](crate::thin::read) and [`ext4::read`](crate::ext4::read) and never through the plan,
//! so a mistake of the writers is not repeated here. What is proven and how: `docs/verification.md`.

mod attributes;
mod blame;
mod branch;
mod bytes;
mod carried;
mod compare;
mod contents;
mod coverage;
mod damage;
mod delta;
mod device;
mod entries;
mod error;
pub mod kernel;
mod last_mount;
mod layer;
mod lookup;
mod mounted;
mod once;
mod out_of_reach;
mod paths;
pub mod pool;
mod pool_state;
mod proof;
mod recorded;
mod report;
mod request;
mod run;
mod sample;
mod space;
mod start;
mod stores;
mod targets;
mod unpack;
mod whose;
mod word;
mod work;
mod written;

pub use blame::{BranchNow, Noted};
pub use coverage::{Coverage, LayerCounts, Missing, Reason};
pub use damage::LayerDamage;
pub use error::Error;
pub use last_mount::{WrittenAt, mounted_since_noted};
pub use pool_state::{expect_devices, superblock};
pub use report::{
    Contents, Faults, KernelWord, LayerReport, Mode, Proof, Report, Role, Tree, Verdict,
};
pub use request::{Ask, Conversion, Devices, Request};
pub use run::verify;
