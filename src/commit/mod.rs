//! Stages the result beside the original and moves it in place.
//!
//! Everything is built below one directory in the Docker root, [`STAGE_NAME`], on the same file system, and made durable
//! there. The move itself is a short list of renames that is undone in reverse when one fails. An interrupted run leaves the
//! root as it was, apart from the staging directory, which the next run reports and replaces.

mod copy;
mod error;
mod stage;
mod switch;

pub use error::{Error, RollbackState};
pub use stage::{Leftover, RootLock, STAGE_NAME, Stage};
pub use switch::EditedConfig;
