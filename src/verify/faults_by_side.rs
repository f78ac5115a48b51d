//! Files that differ from what Docker recorded, grouped by the side that differs.

use super::compare::EntryComparison;
use super::layer_report::Faults;
use super::proof::ProofOutcome;
use crate::tar_split::{Difference, FileLookup};

/// Faults in files.
#[derive(Default)]
pub(super) struct FaultsBySide {
    /// On both sides: they existed before the conversion.
    pub(super) before: Faults,
    /// Only on the device.
    pub(super) wrong: Faults,
    /// Only in aufs.
    pub(super) aufs: Faults,
}

impl FaultsBySide {
    /// Whether all bytes of both sides must be compared to decide: files with another size than recorded were not read,
    /// and if there are too many, their names are not known.
    pub(super) fn needs_bytes(device: &ProofOutcome, aufs: &ProofOutcome) -> bool {
        let mut differences = device.files.differences.iter();
        device.files.more > 0 || differences.any(|one| has_other_size(one) && aufs.has(one))
    }

    /// Groups the faults. `same_bytes`: the files of the branch have the same bytes on the device, as far as that
    /// needed to be known.
    pub(super) fn of(
        (device, aufs): (&ProofOutcome, &ProofOutcome),
        compared: &EntryComparison,
        same_bytes: bool,
    ) -> Self {
        let is_same_tree = compared.faults.is_empty();
        // If the branch lacks a file, a device that matches the branch shows what the layer below has.
        let is_lost = |one: &Difference| {
            let is_noted = compared.is_of_aufs && !matches!(one.found, FileLookup::Content { .. });
            aufs.lacks(&one.path) && (is_same_tree || is_noted)
        };
        let is_before = |one: &Difference| {
            is_lost(one) || (aufs.has(one) && (same_bytes || !has_other_size(one)))
        };
        let is_told = |one: &Difference| {
            let on_device = device.files.differences.iter();
            let mut same_path = on_device.filter(|other| other.path == one.path);
            same_path.any(|other| other == one || is_lost(other))
        };
        let mut whose = Self {
            before: device.faults_of(is_before),
            wrong: device.faults_of(|one| !is_before(one)),
            aufs: aufs.faults_of(|one| !is_told(one)),
        };
        let is_same = is_same_tree || device.files.differences == aufs.files.differences;
        if same_bytes && is_same {
            whose.before.more += device.files.more;
        } else {
            whose.wrong.more += device.files.more;
        }
        whose
    }
}

fn has_other_size(one: &Difference) -> bool {
    matches!(one.found, FileLookup::OtherSize(_))
}
