//! Removes whole directories: never through a mount point or a link, from any depth, and as much as can be removed.
//!
//! Each directory is entered by an open descriptor of its parent, without following links, and only if it lies on the same mount:
//! a name that something else takes meanwhile leads nowhere else. Only so many directories are open at a time; on the way up the
//! others are opened again by `..`, and must be what they were. What cannot be removed is noted with its cause, and the rest goes.
//!
//! It knows nothing of Docker. What is mounted where, in other mount namespaces too, is looked for
//! [before](crate::mount_table).

mod level;
mod remainder;
mod walk;

pub use remainder::{Cause, Obstacle, Remainder};
pub use walk::{remove, remove_unless};
