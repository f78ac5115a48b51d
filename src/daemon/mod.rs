//! The daemon: whether it is stopped and stays stopped, how it gets its settings, and what its first start will do.
//!
//! No single sign is enough: a pid file can be stale, a killed daemon leaves `Running` in its containers' configs, and
//! with live-restore the containers keep running without the daemon. [`check_stopped`] checks all signs. [`PidFiles`]
//! holds the files that keep a daemon from starting. The order matters: the locks come first, then the check, so that a
//! daemon that started before the locks is seen. [`PidFiles::expect_alone`] repeats both right before something is
//! moved or removed, because a daemon can be given a pid file that nobody could have known about.

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
