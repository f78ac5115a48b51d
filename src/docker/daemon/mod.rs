//! Is Docker stopped, and does it stay so? The only part of [`docker`](super) that looks beyond the root.
//!
//! No single sign is enough: a pid file can be stale, a killed daemon leaves `Running` in its containers' configs, and
//! with live-restore the containers go on without the daemon. [`check_stopped`] asks all of them.
//! [`PidFileLock`] then holds the file that keeps a daemon from starting. The order matters: first the lock, then the
//! check, so that a daemon that slipped in before the lock is seen.

mod check;
mod devices;
mod mounts;
mod pid_file;
mod processes;

pub use check::{Finding, Host, Notice, Running, check_devices, check_stopped};
pub use mounts::{MountPlace, mount_of, mounts_in_the_way};
pub use pid_file::{Hold, LockError, PidFileLock};
