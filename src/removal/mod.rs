//! Removes whole directories: never through a mount point or a link, at any depth, and as much as can be removed.
//!
//! Each directory is entered through an open descriptor of its parent, without following links, and only if it is on
//! the same mount: if something else takes a name meanwhile, it cannot lead elsewhere. The number of open directories
//! is limited; on the way up, the others are reopened through `..` and must be the same as before. What cannot be
//! removed is recorded with its cause, and the rest is removed.
//!
//! This module knows nothing about Docker. Mounts, including those in other mount namespaces, are looked for
//! [beforehand](crate::mount_table).

mod level;
mod remainder;
mod walk;

pub use remainder::{Cause, Obstacle, Remainder};
pub use walk::{remove, remove_unless};
