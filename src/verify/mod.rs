//! Verifies a root: that its devices hold what aufs had, and that this is what Docker once unpacked.
//!
//! It reads back through [`thin::read`](crate::thin::read) and [`ext4::read`](crate::ext4::read) and never through the plan,
//! so a mistake of the writers is not repeated here. What is proven and how: `docs/verification.md`.

mod attributes;
mod blame;
mod bytes;
mod carried;
mod compare;
mod contents;
mod context;
mod coverage;
mod damage;
mod delta;
mod entries;
mod error;
pub mod kernel;
mod layer;
mod layer_report;
mod look;
mod mounted;
mod opened;
mod out_of_reach;
mod paths;
mod pool_state;
mod proof;
mod reach;
mod reasons;
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

pub use blame::{BranchNow, ConversionNotes};
pub use coverage::{Coverage, LayerCounts, Omission, Reason};
pub use damage::LayerDamage;
pub use error::Error;
pub use layer_report::{Contents, Faults, LayerReport, Proof, Role, Tree, Verdict};
pub use pool_state::{expect_devices, superblock};
pub use report::{KernelCheck, Mode, Report};
pub use request::{Ask, Conversion, Devices, Request};
pub use run::verify;
