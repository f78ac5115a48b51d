//! A file system that is being changed: begun from an image, and finished to another.

mod begin;
mod data;
mod edit;
mod empty;
mod merge;
mod problems;
mod release;
mod small_file;
mod state;

pub use problems::{EntryProblem, problems_of};
pub use state::{DataRun, Delta, Draft};
