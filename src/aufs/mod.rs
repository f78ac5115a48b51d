//! Reads aufs branches: one layer's directory on disk into a [`LayerTree`](crate::tree::LayerTree).
//!
//! A branch holds the layer's own files among the files by which aufs says what is deleted (whiteouts, opaque markers)
//! and the files it keeps for itself. This part tells them apart, so that no other part knows of `.wh.`. It reads
//! names and attributes only; the files' bytes stay where they are. Which rules there are, and why: `docs/aufs.md`.

mod branch;
mod conflict;
mod error;
mod finding;
mod flagged_files;
mod inode;
mod names;
mod opaque;
mod pseudo_link;

pub use branch::{Branch, Counts, read_branch, read_branch_unless};
pub use error::Error;
pub use finding::Finding;
pub use flagged_files::{FlaggedFile, FlaggedFiles};
pub(crate) use names::Name;
pub use opaque::{DoubleOpaque, OpaqueDirs};
