//! Devices that exist, but about which nothing can be said.

use super::layer_report::{Contents, LayerReport, Role, Tree};
use super::open_device::OpenDevice;

/// Whether the blocks on a device's ext4 are not its actual content, because the journal needs a replay.
pub(super) fn needs_recovery(opened: &OpenDevice<'_>) -> bool {
    let checked = opened.checked.as_ref();
    checked.is_some_and(|checked| checked.view.needs_recovery())
}

/// The report on such a device.
pub(super) fn out_of_reach(mut report: LayerReport, reason: &str) -> LayerReport {
    report.tree = Tree::NotCompared {
        reason: reason.to_owned(),
    };
    if report.role != Role::Base {
        report.contents = Contents::NotVerifiable {
            reason: reason.to_owned(),
        };
    }
    report.not_verified = Some(reason.to_owned());
    report
}
