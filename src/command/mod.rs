//! One conversion from reading to moving in place: the list of steps. How each is done is the business of the parts.
//!
//! [`Source::open`] finds out whether the root can be converted, [`Source::plan`] reads the layers and computes the plan without
//! writing anything, [`Prepared::execute`] writes it and moves it in place.

mod apart;
mod begun_at;
mod commit;
mod conditions;
mod dead_end;
mod error;
mod first_start;
mod held;
mod inspect;
mod interrupted;
mod keep_out;
mod left;
mod lost_flags;
mod mounted;
mod notes;
mod open;
mod order;
mod pool_of;
mod preflight;
mod put_back;
mod read;
mod read_only;
mod resume;
mod resumed;
mod rollback;
mod running;
mod status;
mod summary;
mod unchanged;
mod verify;
mod way_back;
mod whole_source;
mod write;
mod writer;
mod written;

pub use begun_at::BegunAt;
pub use commit::{Discard, Discarded, MayLose};
pub use error::Error;
pub(crate) use error::{end_of_obstacles, head_of_obstacles};
pub use inspect::{Converted, Inspection, inspect};
pub use interrupted::Interrupted;
pub use lost_flags::{LostFlag, LostFlags};
pub use open::{Request, ResumeRequest, Source};
pub use resume::{Finished, finish};
pub use rollback::{RollbackRequest, RolledBack, rollback};
pub use running::Running;
pub use status::{Status, status};
pub use summary::{DeviceSummary, LaidSummary, Summary};
pub use verify::{VerifyRequest, verify};
pub use write::Prepared;
pub use writer::Writer;
