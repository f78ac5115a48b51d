//! The layer's entries: its device compared with its branch.

use crate::content::pool::ThinDevice;
use crate::content::{Halt, stretches};
use crate::devicemapper::{ID_FILE, ROOTFS};
use crate::ext4::Ino;
use crate::ext4::read::{ReadAt, Type, View};
use crate::source::Layer;
use crate::tree::escape;
use crate::verify::compare::{EntryComparison, Sides, compare};
use crate::verify::conversion_notes::BranchNow;
use crate::verify::layer_check::LayerCheck;
use crate::verify::layer_report::{Faults, LayerReport, Tree};
use crate::verify::open_device::OpenDevice;
use crate::verify::reasons::NOT_AS_NOTED;
use crate::verify::space::compare_space;

impl<'r, 'a> LayerCheck<'r, 'a> {
    pub(super) fn below_view(&self) -> Option<&'r View> {
        let checked = self.below.and_then(|below| below.checked.as_ref());
        checked.map(|checked| &checked.view)
    }

    pub(super) fn compare(
        &self,
        branch: Option<&Layer>,
        went_on_after: Option<i64>,
    ) -> Option<EntryComparison> {
        let view =
            |opened: &'r OpenDevice<'a>| opened.checked.as_ref().map(|checked| &checked.view);
        Some(compare(Sides {
            parent: self.below.and_then(view)?,
            child: self.opened.and_then(view)?,
            branch: &branch?.tree,
            tar: None,
            went_on_after,
        }))
    }

    pub(super) fn compare_space(
        &self,
        branch: Option<&Layer>,
        compared: &mut EntryComparison,
    ) -> Result<(), Halt> {
        match (self.on_device(), branch) {
            (Ok(Some(device)), Some(branch)) => {
                compare_space(&self.run.work, device, branch, self.run.mode, compared)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn tree(&self, compared: Option<&EntryComparison>, report: &LayerReport) -> Tree {
        let Some(compared) = compared else {
            if self.opened.is_some() && self.branch_now() == BranchNow::Missing {
                return self.without_branch(report);
            }
            // While the aufs side is being removed, the records about it are still available.
            if self.run.aufs.is_none() && self.is_other_than_noted(report) {
                return Tree::Different {
                    entries: std::iter::once(NOT_AS_NOTED).collect(),
                };
            }
            return Tree::NotCompared {
                reason: self.why_not_compared().to_owned(),
            };
        };
        if compared.faults.is_empty() {
            return Tree::Same {
                entries: compared.entries,
            };
        }
        if self.is_used_since(report) {
            return Tree::ChangedSince {
                differences: compared.faults.count(),
            };
        }
        let entries = compared.faults.clone();
        if compared.is_of_aufs {
            Tree::AufsChanged { entries }
        } else {
            Tree::Different { entries }
        }
    }

    /// The result for a layer whose branch has gone since the conversion.
    pub(super) fn without_branch(&self, report: &LayerReport) -> Tree {
        let lost = format!("aufs/diff/{}: is missing", self.id);
        let mut entries: Faults = std::iter::once(lost).collect();
        if !self.is_other_than_noted(report) {
            return Tree::AufsChanged { entries };
        }
        entries.push(NOT_AS_NOTED);
        Tree::Different { entries }
    }

    pub(super) fn why_not_compared(&self) -> &'static str {
        if self.run.devices.is_none() {
            "there are no devices yet"
        } else if self.run.aufs.is_none() || !self.is_in_aufs() {
            self.why_no_branch()
        } else if self.opened.is_none_or(|opened| opened.checked.is_none()) {
            "its file system cannot be read here"
        } else {
            "its parent cannot be read"
        }
    }

    /// Checks the file beside the tree with which Docker marks the first device of a chain: it contains the layer's id.
    pub(super) fn check_mark(&self, compared: &mut EntryComparison) {
        let view =
            |opened: &'r OpenDevice<'a>| opened.checked.as_ref().map(|checked| &checked.view);
        let (Some(opened), Some(below)) = (self.opened, self.below.and_then(view)) else {
            return;
        };
        let Some(view) = view(opened) else {
            return;
        };
        let is_first = below.lookup(Ino::ROOT, ROOTFS.as_bytes()).is_none();
        if is_first && let Err(what) = mark_is(self.id.as_str().as_bytes(), opened.device, view) {
            compared
                .faults
                .push(format_args!("{ID_FILE} (beside rootfs): {what}"));
        }
    }
}

/// Checks that the mark of a chain's first device is there in the form that both engines write.
fn mark_is(id: &[u8], device: ThinDevice<'_>, view: &View) -> Result<(), &'static str> {
    let ino = view.lookup(Ino::ROOT, ID_FILE.as_bytes());
    let Some((ino, inode)) = ino.and_then(|ino| Some((ino, view.inode(ino)?))) else {
        return Err("is missing");
    };
    if inode.file_type() != Some(Type::Regular) || inode.size() != id.len() as u64 {
        return Err("is not a file with the layer's id");
    }
    let meta = inode.meta();
    if (meta.mode, meta.uid, meta.gid) != (0o600, 0, 0) || inode.attribute_flags() != 0 {
        return Err("does not have the attributes that it was given");
    }
    let mut found = vec![0; id.len()];
    for stretch in stretches(view, ino, inode.size()) {
        let (Some(place), Ok(start), Ok(bytes)) = (
            stretch.place,
            usize::try_from(stretch.offset),
            usize::try_from(stretch.bytes),
        ) else {
            continue;
        };
        device
            .read_at(&mut found[start..start + bytes], place)
            .map_err(|_| "cannot be read")?;
    }
    if found != id {
        return Err("does not contain the layer's id");
    }
    Ok(())
}

/// The entry that every new file system has.
const LOST_AND_FOUND: &[u8] = b"lost+found";

/// Checks that the base device has only what every new file system has.
pub(super) fn base_tree(opened: Option<&OpenDevice<'_>>) -> Tree {
    let Some(checked) = opened.and_then(|opened| opened.checked.as_ref()) else {
        return Tree::NotCompared {
            reason: "its file system cannot be read here".to_owned(),
        };
    };
    let view = &checked.view;
    let names = view.names(Ino::ROOT);
    let mut entries: Faults = names
        .filter(|(name, _)| *name != LOST_AND_FOUND)
        .map(|(name, _)| format!("{} does not belong on the base device", escape(name)))
        .collect();
    let lost_and_found = view.lookup(Ino::ROOT, LOST_AND_FOUND);
    for (path, ino, mode) in [
        ("/", Some(Ino::ROOT), 0o755),
        ("/lost+found", lost_and_found, 0o700),
    ] {
        let Some(inode) = ino.and_then(|ino| view.inode(ino)) else {
            continue;
        };
        let meta = inode.meta();
        if (meta.mode, meta.uid, meta.gid) != (mode, 0, 0) || inode.attribute_flags() != 0 {
            entries.push(format_args!(
                "{path} does not have the attributes that mkfs gives it"
            ));
        }
    }
    if entries.is_empty() {
        Tree::Same { entries: 0 }
    } else {
        Tree::Different { entries }
    }
}
