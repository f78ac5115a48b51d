//! Makes damaged parts of the stores good from what other parts say about the same objects.
//!
//! Nothing is written here, and nothing in the root is ever changed: the values replace the damaged ones in memory, and
//! [`RecordChange`] says which files of the new image store differ from the original. A value is taken only if
//! it is proven (by a digest that is made of it) or if the driver's own lists say it, and if nothing contradicts it.

mod lists;
mod mounts;
mod record_change;
mod records;

pub(super) use lists::rebuild_lists;
pub(super) use mounts::rebuild_mounts;
pub use record_change::{NewContent, RecordChange};
pub use records::Proof;
pub(super) use records::rebuild_records;
