//! One layer: its device read and checked, compared with its parent and its branch, its contents proven.

use std::collections::HashSet;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::branch::read_branch;
use super::carried;
use super::compare::{Compared, Sides, compare};
use super::contents::{How, Subject};
use super::device::DeviceTree;
use super::error::Halt;
use super::pool::ThinDevice;
use super::report::{Contents, Faults, LayerReport, Mode, Role, Tree};
use super::run::Run;
use super::targets::Target;
use crate::chain::Chain;
use crate::docker::devicemapper::FileSystem;
use crate::docker::{CacheId, Hits};
use crate::ext4::Ino;
use crate::ext4::read::{Checked, ReadAt, View};
use crate::plan::Layer;
use crate::tree::escape;

/// A device that was read: what its children are derived from.
pub(super) struct Opened<'a> {
    pub(super) device: ThinDevice<'a>,
    /// What there is to read of its file system.
    pub(super) checked: Option<Checked>,
    /// In which ranges of bytes it differs from its parent; `None` without a parent that was read.
    changed: Option<Vec<Range<u64>>>,
    /// Why there is nothing to read.
    unreadable: Option<String>,
}

/// Opens and checks a target's device. `Err` tells why there is none.
pub(super) fn open<'a>(
    run: &Run<'a>,
    target: &Target,
    below: Option<&Opened<'a>>,
) -> Result<Opened<'a>, String> {
    let Some(devices) = &run.devices else {
        return Err("the root has no devices".to_owned());
    };
    let Some((number, size)) = target.device else {
        return Err("has no device".to_owned());
    };
    let Some(device) = devices.pool.device(number, size) else {
        return Err(format!("its device {number} is not in the pool"));
    };
    if devices
        .files
        .set
        .is_some_and(|set| set.file_system == FileSystem::Xfs)
    {
        return Ok(Opened {
            device,
            checked: None,
            changed: None,
            unreadable: None,
        });
    }
    let changed = below.map(|below| device.changed(&below.device));
    let base = below.and_then(|below| below.checked.as_ref());
    let read = match (base, &changed) {
        (Some(base), Some(changed)) => base.view.derive(&device, changed),
        _ => View::read(&device),
    };
    let (checked, unreadable) = match read {
        Ok(checked) => (Some(checked), None),
        Err(error) => (None, Some(Chain(&error).to_string())),
    };
    Ok(Opened {
        device,
        changed: changed.filter(|_| base.is_some()),
        checked,
        unreadable,
    })
}

/// All that is known of a target.
pub(super) fn examine(
    run: &Run<'_>,
    place: usize,
    opened: &Result<Arc<Opened<'_>>, String>,
    below: Option<&Opened<'_>>,
) -> Result<LayerReport, Halt> {
    let target = &run.targets[place];
    let opened = opened.as_deref();
    let mut report = LayerReport {
        id: target.id.clone(),
        role: target.role(),
        diff_id: None,
        device: target.device.map(|(number, _)| number.value()),
        structure: Faults::default(),
        contents: Contents::Nothing,
        tree: Tree::Same { entries: 0 },
        hits: Hits::default(),
    };
    match opened {
        Ok(opened) => report.structure = structure(opened, below),
        Err(what) if run.devices.is_some() => report.structure.push(what),
        Err(_) => {}
    }
    let Some(id) = &target.id else {
        report.tree = base_tree(opened.ok());
        return Ok(report);
    };
    report.hits = run.store.users_of(id);
    let chain = target.known.chain();
    let layer = chain.and_then(|chain| run.store.layers.get(&chain));
    report.diff_id = layer.map(|layer| layer.diff);
    let look = Look {
        run,
        target,
        id,
        opened: opened.ok(),
        below,
    };
    let own;
    let branch = match look.branch() {
        Ok(None) => None,
        Ok(Some(Branch::Known(layer))) => Some(layer),
        Ok(Some(Branch::Read(layer))) => {
            own = layer;
            Some(&*own)
        }
        Err(halt) => return look.unreadable_branch(report, &halt),
    };
    let compared = look.compare(branch);
    report.tree = look.tree(compared.as_ref(), &report);
    let how = run.how(place);
    report.contents = match look.contents(how, branch, compared.as_ref(), &report.tree) {
        Err(Halt::Interrupted) => return Err(Halt::Interrupted),
        Err(halt @ Halt::Device { .. }) => Contents::Mismatch {
            files: std::iter::once(Chain(&halt)).collect(),
        },
        Err(halt) => Contents::NotVerifiable {
            reason: Chain(&halt).to_string(),
        },
        Ok(contents) => contents,
    };
    Ok(report)
}

/// What is wrong with a device's file system, without what is wrong with its parent's already.
fn structure(opened: &Opened<'_>, below: Option<&Opened<'_>>) -> Faults {
    let known: HashSet<String> = below
        .and_then(|below| below.checked.as_ref())
        .into_iter()
        .flat_map(|checked| checked.faults.iter().map(ToString::to_string))
        .collect();
    let faults = opened.checked.iter().flat_map(|checked| &checked.faults);
    opened
        .unreadable
        .iter()
        .cloned()
        .chain(faults.map(ToString::to_string))
        .filter(|fault| !known.contains(fault))
        .collect()
}

/// A branch as a tree: known from a conversion, or read now.
enum Branch<'a> {
    Known(&'a Layer),
    Read(Box<Layer>),
}

/// A layer, looked at.
struct Look<'r, 'a> {
    run: &'r Run<'a>,
    target: &'r Target,
    id: &'r CacheId,
    opened: Option<&'r Opened<'a>>,
    below: Option<&'r Opened<'a>>,
}

impl<'r, 'a> Look<'r, 'a> {
    /// What aufs has of it.
    fn branch(&self) -> Result<Option<Branch<'r>>, Halt> {
        if let Some(layer) = self.run.known_branches.get(self.id) {
            return Ok(Some(Branch::Known(layer)));
        }
        let Some(aufs) = self.run.aufs.filter(|_| self.target.known.in_aufs) else {
            return Ok(None);
        };
        let branch = aufs.join("diff").join(self.id.as_str());
        let chain = self.target.known.chain();
        let tar_split = chain.map(|chain| self.run.store.tar_split(&chain));
        let layer = read_branch(&self.run.work, self.id, &branch, tar_split.as_deref())?;
        Ok(Some(Branch::Read(Box::new(layer))))
    }

    fn unreadable_branch(&self, mut report: LayerReport, halt: &Halt) -> Result<LayerReport, Halt> {
        if let Halt::Interrupted = halt {
            return Err(Halt::Interrupted);
        }
        let reason = Chain(halt).to_string();
        report.tree = Tree::NotCompared {
            reason: reason.clone(),
        };
        report.contents = match self.contents(How::Read, None, None, &report.tree) {
            Ok(contents) => contents,
            Err(Halt::Interrupted) => return Err(Halt::Interrupted),
            Err(_) => Contents::NotVerifiable { reason },
        };
        Ok(report)
    }

    fn compare(&self, branch: Option<&Layer>) -> Option<Compared> {
        let view = |opened: &'r Opened<'a>| opened.checked.as_ref().map(|checked| &checked.view);
        Some(compare(Sides {
            parent: self.below.and_then(view)?,
            child: self.opened.and_then(view)?,
            branch: &branch?.tree,
        }))
    }

    fn tree(&self, compared: Option<&Compared>, report: &LayerReport) -> Tree {
        let Some(compared) = compared else {
            return Tree::NotCompared {
                reason: self.why_not_compared().to_owned(),
            };
        };
        if compared.faults.is_empty() {
            return Tree::Same {
                entries: compared.entries,
            };
        }
        if report.role == Role::Writable && self.written_since() {
            return Tree::ChangedSince {
                differences: compared.faults.count(),
            };
        }
        Tree::Different {
            entries: compared.faults.clone(),
        }
    }

    fn why_not_compared(&self) -> &'static str {
        if self.run.devices.is_none() {
            "there are no devices yet"
        } else if self.run.aufs.is_none() {
            "the aufs side is gone"
        } else if !self.target.known.in_aufs {
            "it was made after the conversion"
        } else if self.opened.is_none_or(|opened| opened.checked.is_none()) {
            "its file system cannot be read here"
        } else {
            "its parent cannot be read"
        }
    }

    /// Whether the file system was written to after the conversion noted its device: a container went on with it.
    fn written_since(&self) -> bool {
        let (Some(opened), Some(devices)) = (self.opened, &self.run.devices) else {
            return false;
        };
        let note = devices.home.join("metadata").join(self.id.as_str());
        let Ok(note) = note.symlink_metadata() else {
            return false;
        };
        last_write(&opened.device).is_some_and(|time| time > note.mtime())
    }

    fn contents(
        &self,
        how: How<'_>,
        branch: Option<&Layer>,
        compared: Option<&Compared>,
        tree: &Tree,
    ) -> Result<Contents, Halt> {
        if let Tree::ChangedSince { .. } = tree {
            return Ok(Contents::NotVerifiable {
                reason: "its container went on with it since the conversion".to_owned(),
            });
        }
        let device = match self.opened {
            None if self.run.devices.is_some() => return Ok(Contents::Nothing),
            None => None,
            Some(opened) => {
                let view = opened.checked.as_ref().map(|checked| &checked.view);
                let Some(tree) = view.and_then(DeviceTree::of) else {
                    return Ok(Contents::NotVerifiable {
                        reason: "its file system cannot be read here".to_owned(),
                    });
                };
                Some((opened.device, tree))
            }
        };
        let chain = self.target.known.chain();
        let layer = chain.and_then(|chain| Some((chain, self.run.store.layers.get(&chain)?)));
        let record = match layer {
            None => None,
            Some((chain, layer)) => {
                let file = self.run.store.open_tar_split(&chain)?;
                file.map(|file| (layer.diff, file))
            }
        };
        let subject = Subject {
            work: &self.run.work,
            record,
            device,
            branch,
            compared,
        };
        let contents = subject.contents(how)?;
        self.with_carried(contents, compared)
    }

    /// Adds what the device holds of its parent's files in blocks of its own.
    fn with_carried(
        &self,
        contents: Contents,
        compared: Option<&Compared>,
    ) -> Result<Contents, Halt> {
        let (Some(opened), Some(below), Some(compared)) = (self.opened, self.below, compared)
        else {
            return Ok(contents);
        };
        let (Some(checked), Some(changed)) = (&opened.checked, &opened.changed) else {
            return Ok(contents);
        };
        if self.run.mode != Mode::Full || matches!(contents, Contents::Mismatch { .. }) {
            return Ok(contents);
        }
        let child = (opened.device, &checked.view);
        let differing = carried::differing(&self.run.work, child, below.device, changed, compared)?;
        Ok(if differing.is_empty() {
            contents
        } else {
            Contents::Mismatch { files: differing }
        })
    }
}

/// When the file system's superblock was last written, in seconds since 1970. Source: linux v6.6 `fs/ext4/ext4.h`,
/// `struct ext4_super_block`, `s_wtime` and `s_wtime_hi`.
fn last_write(device: &ThinDevice<'_>) -> Option<i64> {
    let mut superblock = [0; 1024];
    device.read_at(&mut superblock, 1024).ok()?;
    let low = u32::from_le_bytes(*superblock[0x30..].first_chunk()?);
    Some(i64::from(superblock[0x274]) << 32 | i64::from(low))
}

/// The base device has nothing but what every new file system has.
fn base_tree(opened: Option<&Opened<'_>>) -> Tree {
    let Some(checked) = opened.and_then(|opened| opened.checked.as_ref()) else {
        return Tree::NotCompared {
            reason: "its file system cannot be read here".to_owned(),
        };
    };
    let names = checked.view.names(Ino::ROOT);
    let entries: Faults = names
        .filter(|(name, _)| *name != b"lost+found")
        .map(|(name, _)| format!("{} does not belong on the base device", escape(name)))
        .collect();
    if entries.is_empty() {
        Tree::Same { entries: 0 }
    } else {
        Tree::Different { entries }
    }
}
