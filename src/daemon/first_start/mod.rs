//! The first start of Docker on the converted root: what will happen, and how Docker is made to use the root.
//!
//! [`look_ahead`] reads the daemon's settings (its unit, the files that name flags, `daemon.json`), determines which
//! Docker is installed and what its driver makes of these settings, and reports everything that would keep it from
//! starting or surprise the operator. [`plan_switch`] determines the change to `daemon.json`, [`apply`] makes it and
//! [`restore`] undoes it. [`start_checks`](crate::devicemapper::start_checks) then runs the checks of the driver's
//! start on the finished files.
//!
//! Nothing here reads blocks; the caller supplies what must be known about the pool.

mod by_hand;
mod choice;
mod containers;
mod device_names;
mod kernel_modules;
mod keys;
mod look_ahead;
mod outlook;
mod recorded;
mod space;
mod storage_setup;
mod swarm;
mod switch;
mod thin_check;

pub use by_hand::{
    is_applied, lines_by_hand, restore_by_hand, settings_file, told_aufs, told_devicemapper,
};
pub use look_ahead::look_ahead;
pub use outlook::{Finding, Outlook};
pub use recorded::check_recorded;
pub use space::min_free;
pub use switch::{ConfigEdit, Record, Switch, SwitchError, apply, plan_switch, restore};
pub(super) use switch::{ORIGINAL, beside, is_same_file};
