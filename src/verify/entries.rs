//! Checks a layer's entries, on the device and in aufs, against the headers of its tar.

use std::collections::HashSet;

use super::compare::{EntryComparison, Sides, compare};
use super::layer_report::{Contents, Faults};
use super::recorded::branch_faults;
use super::unpack::UnpackedLayer;
use crate::ext4::read::View;
use crate::tree::LayerTree;

/// The result of a comparison with a layer's tar.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// The number of entries in the tar.
    count: u64,
    /// Where aufs and the device both differ from the tar, in the same way.
    before: Faults,
    /// Where only the device differs.
    wrong: Faults,
    /// Where only aufs differs.
    pub(super) aufs: Faults,
    /// Why nothing was compared.
    unknown: Option<String>,
}

impl Entries {
    /// The result if they cannot be compared.
    pub(super) fn unknown(why: impl Into<String>) -> Self {
        Self {
            unknown: Some(why.into()),
            ..Self::default()
        }
    }

    /// Compares a tar with what exists of its layer: the branch, and the device with the one it is a snapshot of. If
    /// `compared` says that both are the same, the branch stands for both.
    pub(super) fn compare(
        tar: &UnpackedLayer,
        branch: Option<&LayerTree>,
        (parent, child): (Option<&View>, Option<&View>),
        compared: Option<&EntryComparison>,
    ) -> Self {
        let in_aufs = branch.map_or_else(Faults::default, |branch| branch_faults(tar, branch));
        let are_same = compared.is_some_and(|compared| compared.faults.is_empty());
        let device = match (parent, child) {
            _ if branch.is_some() && (are_same || child.is_none()) => None,
            (Some(parent), Some(child)) => Some((parent, child)),
            _ => return Self::unknown("the layer below cannot be read"),
        };
        let found = Self {
            count: tar.entries,
            ..Self::default()
        };
        let Some((parent, child)) = device else {
            return Self {
                before: in_aufs,
                ..found
            };
        };
        let sides = Sides {
            parent,
            child,
            branch: &tar.tree,
            tar: Some(tar),
            went_on_after: None,
        };
        let EntryFaults {
            before,
            wrong,
            aufs,
        } = apart(
            in_aufs,
            compare(sides).faults,
            compared.is_some_and(|compared| compared.is_of_aufs),
        );
        Self {
            before,
            wrong,
            aufs,
            ..found
        }
    }

    /// Compares a tar with a branch that is known to match the device.
    pub(super) fn of_branch(tar: &UnpackedLayer, branch: &LayerTree) -> Self {
        Self {
            count: tar.entries,
            before: branch_faults(tar, branch),
            ..Self::default()
        }
    }

    /// The verdict on a layer's contents, extended by the findings for its entries.
    pub(super) fn added_to(self, contents: Contents) -> Contents {
        let Self {
            count,
            before: more,
            wrong,
            unknown,
            ..
        } = self;
        match contents {
            Contents::Mismatch {
                mut files,
                mut before,
            } => {
                files.append(wrong);
                before.append(more);
                Contents::Mismatch { files, before }
            }
            Contents::SourceDamaged { files: mut before } => {
                before.append(more);
                damaged(wrong, before)
            }
            _ if !wrong.is_empty() || !more.is_empty() => damaged(wrong, more),
            Contents::Verified { files, .. } if unknown.is_some() => Contents::NotVerifiable {
                reason: format!(
                    "its {files} files have the recorded content, but its entries cannot be verified: {}",
                    unknown.unwrap_or_default()
                ),
            },
            Contents::Nothing if unknown.is_some() => Contents::NotVerifiable {
                reason: unknown.unwrap_or_default(),
            },
            Contents::Verified {
                by, files, bytes, ..
            } => Contents::Verified {
                by,
                files,
                bytes,
                entries: Some(count),
            },
            other => other,
        }
    }
}

fn damaged(wrong: Faults, before: Faults) -> Contents {
    if wrong.is_empty() {
        Contents::SourceDamaged { files: before }
    } else {
        Contents::Mismatch {
            files: wrong,
            before,
        }
    }
}

/// Differences from the tar, separated into those of both sides and those of one side alone.
struct EntryFaults {
    before: Faults,
    wrong: Faults,
    aufs: Faults,
}

/// Separates differences from before the conversion from those that only one side has. If `is_of_aufs`, only aufs has
/// changed since, so everything on the device is as it was converted.
fn apart(in_aufs: Faults, on_device: Faults, is_of_aufs: bool) -> EntryFaults {
    let as_shown = |faults: &Faults| -> HashSet<String> {
        faults
            .first
            .iter()
            .map(|fault| as_on_device(fault))
            .collect()
    };
    let (in_both, shown) = (as_shown(&in_aufs), as_shown(&on_device));
    let (both, wrong) = on_device
        .first
        .into_iter()
        .partition(|fault| is_of_aufs || in_both.contains(fault));
    let alone = in_aufs.first.into_iter();
    // The two sides differ somewhere, possibly in something that is no longer listed by name.
    let (before, wrong_too) = if is_of_aufs {
        (on_device.more, 0)
    } else {
        (0, on_device.more)
    };
    EntryFaults {
        wrong: Faults {
            first: wrong,
            more: wrong_too,
        },
        aufs: Faults {
            first: alone
                .filter(|fault| !shown.contains(&as_on_device(fault)))
                .collect(),
            more: in_aufs.more - in_aufs.more.min(before),
        },
        before: Faults {
            first: both,
            more: before,
        },
    }
}

/// The form in which a difference shows on a device: a missing whiteout shows as the name that it deletes.
fn as_on_device(fault: &str) -> String {
    match fault.split_once("/.wh.") {
        Some((directory, rest)) => match rest.strip_suffix(": is missing") {
            Some(name) => format!("{directory}/{name}: exists, but the layer removes it"),
            None => fault.to_owned(),
        },
        None => fault.to_owned(),
    }
}
