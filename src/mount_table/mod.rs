//! The mounts in this process's mount namespace and in all others that are visible.
//!
//! This module does not depend on Docker.

mod entry;
mod find;
mod view;

pub(crate) use entry::{Mount, directory_at, mount_points, mount_points_of, parse, paths_of};
pub(crate) use find::told;
pub use find::{MountFound, Table, Visibility};
