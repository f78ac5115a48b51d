//! System calls that need `unsafe`, or that belong nowhere else, as safe functions. No other module has `unsafe`.

mod access_times;
pub mod block;
mod clone;
pub mod device_mapper;
mod extents;
mod identity;
mod inode_flags;
mod kernel;
pub mod loops;
pub mod mounts;
mod open_files;
pub(crate) mod program;
mod stat;
mod statx;

pub use access_times::without_access_times;
pub use clone::{CloneRange, clone_range};
pub use extents::extents_of;
pub use identity::{Identity, frozen_name};
pub use inode_flags::{Immutability, frozen};
pub use kernel::{kernel_version, release as kernel_release, syncfs_tells_errors};
pub use open_files::raise_open_files;
pub use stat::{InodeFlag, Stat, birth};
