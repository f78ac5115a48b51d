//! The daemon: whether it is stopped and stays so, how it is told what to do, and what its first start will be.
//!
//! No single sign is enough: a pid file can be stale, a killed daemon leaves `Running` in its containers' configs, and
//! with live-restore the containers go on without the daemon. [`check_stopped`] asks all of them.
//! [`PidFiles`] holds the files that keep a daemon from starting. The order matters: first the locks, then the
//! check, so that a daemon that slipped in before the locks is seen. [`PidFiles::expect_alone`] asks all again, right before
//! something is moved or removed: a daemon can be told of a pid file that nobody could know of.

mod candidates;
mod check;
pub mod config;
mod devices;
mod finding;
pub mod first_start;
mod mounts;
mod pid_file;
mod pid_file_entries;
mod pid_files;
mod processes;

pub use check::{check_devices, check_stopped};
pub use finding::{Finding, Host, Notice, RunningDocker};
pub use mounts::{MountPlace, mount_of, mounts_in_the_way};
pub use pid_file::{Hold, LockError, PidFileLock};
pub use pid_file_entries::{PidFileEntry, PidFileOwner, named};
pub use pid_files::{NotAlone, PidFiles};
