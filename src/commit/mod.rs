//! Stages the result beside the original, moves it in place, takes it back, and removes the original when told to.
//!
//! Everything is built below one directory in the Docker root, [`STAGE_NAME`](crate::staging::STAGE_NAME), on the same file system, and made durable
//! there. The move itself is a short list of renames. A journal in that directory knows at every moment what was begun and
//! what was moved, so that any interruption has a way on and a way back: `docs/commit.md`.

mod area;
mod aufs_changes;
mod aufs_side;
mod beside;
mod committed;
mod config;
mod config_kinds;
mod content;
mod conversion;
mod copy;
mod device_side;
mod error;
mod expected;
mod going;
mod image_names;
mod journal;
mod left_out;
mod leftover;
mod moves;
mod originals;
mod others;
mod progress_file;
mod removal;
mod remove;
mod set_out;
mod since;
mod size;
mod stage;
mod stamp;
mod store_files;
mod switch;
mod tick;
mod times;
mod verified;
mod walk;
mod whereabouts;

pub use aufs_changes::AufsChanges;
pub use aufs_side::{AsRead, AufsSide, Depth};
pub use beside::{Beside, check_space as check_space_beside, has_own_mount};
pub use committed::Committed;
pub use content::PoolData;
pub use conversion::Conversion;
pub use device_side::DeviceSide;
pub use error::Error;
pub use image_names::ImageNames;
pub use journal::{Begun, Journal, Record, State, Story, Switching, now};
pub use leftover::Leftover;
pub use moves::Move;
pub use progress_file::{ProgressFile, Told};
pub use removal::{Removal, StoreOfAufs};
pub use remove::{expect_unmounted_stage, remove_leftover};
pub use set_out::Untouched;
pub use since::{Changes, Written};
pub use stage::{EditedConfig, RootLock, Stage};
pub use stamp::Pieces;
pub use switch::{ExpectAlone, TakenBack};
pub use tick::pass_the_second;
pub use times::Times;
pub use verified::{Verifications, Verified};
