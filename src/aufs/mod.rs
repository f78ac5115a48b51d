//! Reads aufs branches: one layer's directory on disk into a [`LayerTree`](crate::tree::LayerTree).
//!
//! A branch holds the layer's own files, the files that aufs uses to mark deletions (whiteouts, opaque markers), and
//! the files that aufs keeps for itself. This module separates them, so that no other module needs to know about
//! `.wh.`. It reads only names and attributes; the files' bytes stay where they are. The rules and the reasons for
//! them: `docs/aufs.md`.

mod branch;
mod clamped_times;
mod conflict;
mod counts;
mod error;
mod failure;
mod finding;
mod flagged_files;
mod inode;
mod listed;
mod names;
mod opaque;
mod pass;
mod pseudo_link;

pub use branch::{Branch, read_branch, read_branch_unless};
pub use counts::Counts;
pub use error::Error;
pub use finding::Finding;
pub use flagged_files::{FlaggedFile, FlaggedFiles};
pub(crate) use names::Name;
pub use opaque::{DoubleOpaque, OpaqueDirs};
