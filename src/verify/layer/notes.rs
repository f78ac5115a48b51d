//! What the conversion noted about the layer, and whether its container was used since.

use crate::content::noted_at;
use crate::verify::conversion_notes::NotedBytes;
use crate::verify::delta;
use crate::verify::layer_check::LayerCheck;
use crate::verify::layer_report::{LayerReport, Role};
use crate::verify::open_device::OpenDevice;

impl<'r, 'a> LayerCheck<'r, 'a> {
    /// The digest of the device's entries, if those of its parent can be read.
    pub(super) fn entries(&self) -> Option<String> {
        let view =
            |opened: &'r OpenDevice<'a>| opened.checked.as_ref().map(|checked| &checked.view);
        let (parent, child) = (self.below.and_then(view)?, self.opened.and_then(view)?);
        Some(delta::digest(parent, child))
    }

    /// The conversion's record of that digest.
    pub(in crate::verify) fn noted_entries(&self) -> Option<&'r str> {
        let entries = self.run.noted?.entries.get(self.id.as_str());
        entries.map(|digest| &**digest)
    }

    /// Whether the device's entries match the conversion's record.
    pub(in crate::verify) fn is_as_noted(&self, entries: Option<&str>) -> bool {
        let noted = self.noted_entries();
        noted.is_some() && noted == entries
    }

    /// What is known about the bytes of its files when both sides were the same.
    pub(super) fn bytes_then(&self) -> NotedBytes<'r> {
        let Some(noted) = self.run.noted else {
            return NotedBytes::Aufs;
        };
        let digest = noted.bytes.get(self.id.as_str());
        digest.map_or(NotedBytes::Unknown, |digest| NotedBytes::Noted(digest))
    }

    /// When the conversion recorded its device, in seconds since 1970.
    pub(in crate::verify) fn noted_at(&self) -> Option<i64> {
        let noted = self.run.noted;
        let written_at = noted.and_then(|noted| (noted.written_at)(self.id));
        let switched_at = noted.and_then(|noted| noted.switched_at);
        let home = self.run.devices.as_ref()?.home;
        noted_at(home, self.id, (written_at, switched_at))
    }

    /// Whether the kernel mounted the file system writable after the conversion recorded its device: its container was
    /// used, or Docker copied something there. Damage does not count as a mount.
    pub(super) fn went_on(&self, mounted: Option<i64>) -> bool {
        mounted
            .zip(self.noted_at())
            .is_some_and(|(mounted, noted)| mounted > noted)
    }

    /// Whether it is a container's layer that may legitimately differ from aufs.
    pub(super) fn is_used_since(&self, report: &LayerReport) -> bool {
        report.role == Role::Writable && self.went_on(report.mounted)
    }

    /// Whether the device's entries are known to differ from the conversion's record, and not through the work of its
    /// container.
    pub(super) fn is_other_than_noted(&self, report: &LayerReport) -> bool {
        let is_noted = self.opened.is_some() && self.noted_entries().is_some();
        is_noted && !self.is_used_since(report) && !self.is_as_noted(report.entries.as_deref())
    }
}
