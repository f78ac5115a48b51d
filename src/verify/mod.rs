//! Verifies a root: that its devices hold what aufs had, and that this is what Docker once unpacked.
//!
//! It reads back through [`thin::read`](crate::thin::read) and [`ext4::read`](crate::ext4::read) and never through the
//! plan, so it does not repeat a mistake of the writers. What is proven, and how: `docs/verification.md`.

mod attributes;
mod bytes;
mod carried;
mod compare;
mod contents;
mod conversion_notes;
mod coverage;
mod damage;
mod delta;
mod entries;
mod error;
mod faults_by_side;
pub mod kernel;
mod kernel_check;
mod layer;
mod layer_check;
mod layer_report;
mod mounted;
mod open_device;
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
mod verification;

pub use conversion_notes::{BranchNow, ConversionNotes};
pub use coverage::{Coverage, LayerCounts, Omission, Reason};
pub use damage::LayerDamage;
pub use error::Error;
pub use layer_report::{Contents, Faults, LayerReport, Proof, Role, Tree, Verdict};
pub use pool_state::{expect_devices, superblock};
pub use report::{KernelCheck, Mode, Report};
pub use request::{Ask, Conversion, Devices, Request};
pub use run::verify;
