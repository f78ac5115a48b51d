//! The first start of Docker on the converted root: what will happen, and how it comes to take the root.
//!
//! [`look_ahead`] reads what the daemon will be told (its unit, the files that name flags, `daemon.json`), which Docker is
//! installed and what its driver makes of all that, and names everything that would keep it from starting or surprise the
//! operator. [`plan_switch`] works out the change to `daemon.json`, [`apply`] makes it and [`restore`] undoes it.
//! [`start_checks`](crate::devicemapper::start_checks) then tries on the finished files what the driver tries when it starts.
//!
//! Nothing here looks at blocks; what must be known of the pool is told by the caller.

mod by_hand;
mod choice;
mod containers;
mod look_ahead;
mod outlook;
mod recorded;
mod space;
mod switch;

pub use by_hand::{
    is_applied, lines_by_hand, restore_by_hand, settings_file, told_aufs, told_devicemapper,
};
pub use look_ahead::look_ahead;
pub use outlook::{Finding, Outlook};
pub use recorded::check_recorded;
pub use switch::{ConfigEdit, Record, Switch, SwitchError, apply, plan_switch, restore};
pub(super) use switch::{ORIGINAL, beside, is_same_file};
