//! A conversion from reading to moving into place, as a list of steps. The other modules carry them out.
//!
//! [`OpenRoot::open`] checks whether the root can be converted, [`OpenRoot::plan`] reads the layers and computes the
//! plan without writing anything, and [`PlannedConversion::execute`] writes it and moves it into place.

mod active_run;
mod apart;
mod commit;
mod conditions;
mod conversion_origin;
mod damage;
mod dead_end;
mod earlier_run;
mod error;
mod first_start;
mod inspect;
mod interrupted;
mod interruption;
mod keep_out;
mod layer_proof;
mod left;
mod locked_root;
mod lost_flags;
mod mount_times;
mod mounted;
mod notes;
mod open;
mod open_root;
mod planned_conversion;
mod pool_of;
mod preflight;
mod put_back;
mod read;
mod read_only;
mod recorded_options;
mod request;
mod resume;
mod rollback;
mod settle;
mod settle_damage;
mod status;
mod store_times;
mod summary;
mod unchanged;
mod verify;
mod way_back;
mod whole_source;
mod write;
mod writer;

pub use active_run::ActiveRun;
pub use commit::{Commit, CommitSummary};
pub use conversion_origin::ConversionOrigin;
pub use damage::Damage;
pub use error::Error;
pub(crate) use error::{end_of_obstacles, head_of_obstacles};
pub use inspect::{ConversionSummary, Inspection, inspect};
pub use interruption::Interruption;
pub use lost_flags::{LostFlag, LostFlags};
pub use open_root::OpenRoot;
pub use planned_conversion::PlannedConversion;
pub use request::{Choices, MayLose, Request, ResumeRequest, RollbackRequest, VerifyRequest};
pub use resume::{ResumeOutcome, finish};
pub use rollback::{RollbackSummary, rollback};
pub use status::{Status, status};
pub use summary::{DeviceSummary, LaidSummary, Summary};
pub use verify::verify;
pub use writer::Writer;
