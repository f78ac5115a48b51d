//! Files that are not what Docker recorded, by the side that has them so.

use super::compare::EntryComparison;
use super::layer_report::Faults;
use super::proof::ProofOutcome;
use crate::tar_split::{Difference, FileLookup};

/// What is wrong with files.
#[derive(Default)]
pub(super) struct FaultsBySide {
    /// On both sides: it was so before the conversion.
    pub(super) before: Faults,
    /// On the device alone.
    pub(super) wrong: Faults,
    /// In aufs alone.
    pub(super) aufs: Faults,
}

impl FaultsBySide {
    /// Whether all bytes of both sides must be compared to tell: files of another size than recorded were not read, and of too many the
    /// names are not known.
    pub(super) fn needs_bytes(device: &ProofOutcome, aufs: &ProofOutcome) -> bool {
        let mut differences = device.files.differences.iter();
        device.files.more > 0 || differences.any(|one| has_other_size(one) && aufs.has(one))
    }

    /// Tells them apart. `same_bytes`: the files of the branch have the same bytes on the device, as far as that had to be known.
    pub(super) fn of(
        (device, aufs): (&ProofOutcome, &ProofOutcome),
        compared: &EntryComparison,
        same_bytes: bool,
    ) -> Self {
        let is_same_tree = compared.faults.is_empty();
        // Where the branch has no file, a device that is what the branch says shows what the layer below has.
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
