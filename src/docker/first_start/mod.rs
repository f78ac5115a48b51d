//! The first start of Docker on the converted root: what will happen, and how it comes to take the root.
//!
//! [`look_ahead`] reads what the daemon will be told (its unit, the files that name flags, `daemon.json`), which Docker is
//! installed and what its driver makes of all that, and names everything that would keep it from starting or surprise the
//! operator. [`plan_switch`] works out the change to `daemon.json`, [`apply`] makes it and [`restore`] undoes it.
//! [`start_checks`] then tries on the finished files what the driver tries when it starts.
//!
//! Nothing here looks at blocks; what must be known of the pool is told by the caller.

mod by_hand;
mod choice;
mod config_file;
mod containers;
mod data_root;
mod env_file;
mod flags;
mod hindrances;
mod host_files;
mod identity;
mod installed;
mod look_ahead;
mod outlook;
mod pid_files;
mod recorded;
mod service;
mod settings;
mod space;
mod start;
mod storage_option;
mod switch;
mod target;
mod told;
mod unit;
mod version;
mod words;

pub use by_hand::{
    is_applied, lines_by_hand, restore_by_hand, settings_file, told_aufs, told_devicemapper,
};
pub use config_file::{Change, ConfigError, edit};
pub(super) use data_root::data_root_of_daemon;
pub use data_root::{DataRoot, data_root};
pub use hindrances::hindrances;
pub use identity::{HostIdentity, Likeness};
pub use look_ahead::look_ahead;
pub use outlook::{Finding, Outlook, Severity};
pub use pid_files::{default_pid_file, pid_files};
pub use recorded::check_recorded;
pub use start::{
    DeviceFileError, FileSizes, FileSystemIdentity, Home, Pool, StartFault, start_checks,
};
pub use switch::{ConfigEdit, Record, Switch, SwitchError, apply, plan_switch, restore};
pub use target::{LoopFiles, Space, Target};
pub use version::Version;
