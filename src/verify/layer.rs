//! The verification of one layer: its device is read and checked, compared with its parent and its branch, and its
//! contents are proven.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bytes::Bytes;
use super::compare::{EntryComparison, Sides, compare};
use super::contents::{ContentsMode, ContentsVerdict, Subject};
use super::conversion_notes::{BranchNow, BytesThen};
use super::layer_check::{LayerCheck, file_bytes};
use super::layer_report::{Contents, Faults, LayerReport, Role, Tree};
use super::open_device::{BranchRef, OpenDevice, Stack};
use super::out_of_reach::{needs_recovery, out_of_reach};
use super::reasons::{NOT_AS_NOTED, NOT_UNMOUNTED, NOT_WRITTEN, WENT_ON};
use super::report::Mode;
use super::space::compare_space;
use super::targets::Target;
use super::verification::Verification;
use super::{carried, delta, mounted, open_device};
use crate::chain::Chain;
use crate::content::pool::ThinDevice;
use crate::content::{DeviceTree, Halt, last_mount, noted_at, read_branch, stretches};
use crate::devicemapper::{ID_FILE, ROOTFS};
use crate::docker::{self, CacheId, ChainId, DiffId, Hits};
use crate::ext4::Ino;
use crate::ext4::read::{ReadAt, Type, View};
use crate::source::Layer;
use crate::tree::escape;
use crate::{tar_split, units};

/// Opens and checks a target's device. `Err` says why there is none.
pub(super) fn open<'a>(
    run: &Verification<'a>,
    place: usize,
    below: Option<&OpenDevice<'a>>,
) -> Result<OpenDevice<'a>, String> {
    let target = &run.targets[place];
    let Some(devices) = &run.devices else {
        return Err("the root has no devices".to_owned());
    };
    let Some((number, size)) = target.device else {
        return Err("has no device".to_owned());
    };
    let Some(device) = devices.pool.device(number, size) else {
        return Err(format!("its device {number} is not in the pool"));
    };
    if run.reach.is_some() {
        return Ok(OpenDevice {
            device,
            checked: None,
            changed: below.map(|below| device.changed(&below.device)),
            stack: stack_of(run, place, below),
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
    Ok(OpenDevice {
        device,
        changed: changed.filter(|_| base.is_some()),
        stack: Err("it is read without the kernel".to_owned()),
        checked,
        unreadable,
    })
}

/// The branches that the kernel's view of a device is compared with.
fn stack_of<'a>(run: &Verification<'a>, place: usize, below: Option<&OpenDevice<'a>>) -> Stack<'a> {
    let target = &run.targets[place];
    let Some(id) = &target.id else {
        return Ok(Vec::new());
    };
    if !run.needs_stack(place) {
        return Err("it was not read".to_owned());
    }
    let look = LayerCheck {
        run,
        target,
        id,
        opened: None,
        below: None,
    };
    let own = match run.known_branches.get(id) {
        Some(&layer) => Ok(BranchRef::Known(layer)),
        None => match look.branch() {
            Ok(Some(Branch::Read(layer))) => Ok(BranchRef::Read(Arc::from(layer))),
            Ok(_) => Err(look.why_no_branch().to_owned()),
            Err(halt) => Err(Chain(&halt).to_string()),
        },
    };
    open_device::stack(own, below)
}

/// Examines a target in every respect.
pub(super) fn examine(
    run: &Verification<'_>,
    place: usize,
    opened: &Result<Arc<OpenDevice<'_>>, String>,
    below: Option<&OpenDevice<'_>>,
) -> Result<LayerReport, Halt> {
    let target = &run.targets[place];
    let opened = opened.as_deref();
    let mut report = begun(run, target, opened, below);
    if let (Some(reach), Ok(opened)) = (run.reach, opened) {
        return mounted::examine(run, (place, opened), reach, report);
    }
    if let Ok(opened) = opened
        && needs_recovery(opened)
    {
        // What looks wrong may be right once the journal is replayed.
        report.structure = cut_off(opened).into_iter().collect();
        return Ok(out_of_reach(report, NOT_UNMOUNTED));
    }
    let Some(id) = &target.id else {
        report.tree = base_tree(opened.ok());
        return Ok(report);
    };
    let look = LayerCheck {
        run,
        target,
        id,
        opened: opened.ok(),
        below,
    };
    examine_layer(&look, run.how(place), report)
}

/// Examines a layer on ext4, or its branch alone.
fn examine_layer(
    look: &LayerCheck<'_, '_>,
    how: ContentsMode<'_>,
    mut report: LayerReport,
) -> Result<LayerReport, Halt> {
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
    if let Some(branch) = branch {
        report.bytes = file_bytes(&branch.tree);
    }
    report.entries = look.entries();
    let went_on_after = look
        .is_used_since(&report)
        .then(|| look.noted_at())
        .flatten();
    let mut compared = look.compare(branch, went_on_after);
    if let Some(compared) = &mut compared {
        compared.is_of_aufs = look.is_as_noted(report.entries.as_deref());
        let of_entries = compared.faults.count();
        look.check_mark(compared);
        match look.compare_space(branch, compared) {
            Ok(()) => {}
            Err(halt @ Halt::Device { .. }) => compared.faults.push(Chain(&halt)),
            Err(halt) => return look.unreadable_branch(report, &halt),
        }
        report.space = std::mem::take(&mut compared.space);
        // Faults other than those of the entries belong to the device.
        compared.is_of_aufs &= of_entries > 0 && compared.faults.count() == of_entries;
    }
    report.tree = look.tree(compared.as_ref(), &report);
    let judged = match look.contents(how, branch, compared.as_ref(), &report) {
        Err(Halt::Interrupted) => return Err(Halt::Interrupted),
        Err(halt @ Halt::Device { .. }) => {
            Contents::mismatch(std::iter::once(Chain(&halt)).collect()).into()
        }
        Err(halt) => Contents::NotVerifiable {
            reason: Chain(&halt).to_string(),
        }
        .into(),
        Ok(judged) => judged,
    };
    judged.tell(&mut report);
    Ok(report)
}

/// The report of a target, without anything that needs its branch or its contents.
fn begun(
    run: &Verification<'_>,
    target: &Target,
    opened: Result<&OpenDevice<'_>, &String>,
    below: Option<&OpenDevice<'_>>,
) -> LayerReport {
    let structure = match opened {
        Ok(opened) => structure(opened, below),
        Err(what) if run.devices.is_some() => std::iter::once(what).collect(),
        Err(_) => Faults::default(),
    };
    let chain = target.known.chain();
    let layer = chain.and_then(|chain| run.store.layers.get(&chain));
    let users = |id: &CacheId| run.store.users_of(id);
    LayerReport {
        id: target.id.clone(),
        role: target.role(),
        diff_id: layer.map(|layer| layer.diff),
        device: target.device.map(|(number, _)| number.value()),
        bytes: layer.map_or(0, |layer| layer.size.0),
        not_verified: None,
        structure,
        contents: Contents::Nothing,
        tree: Tree::Same { entries: 0 },
        aufs: Faults::default(),
        space: Faults::default(),
        entries: None,
        own_bytes: None,
        read_in_aufs: false,
        mounted: opened
            .ok()
            .filter(|_| run.reach.is_none())
            .and_then(|opened| last_mount(&opened.device)),
        hits: target.id.as_ref().map_or_else(Hits::default, users),
    }
}

/// The faults of a device's file system, without those that its parent already has.
fn structure(opened: &OpenDevice<'_>, below: Option<&OpenDevice<'_>>) -> Faults {
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
        .chain(cut_off(opened))
        .chain(faults.map(ToString::to_string))
        .filter(|fault| !known.contains(fault))
        .collect()
}

/// The message that Docker would make the device smaller than the file system on it, if that is so.
fn cut_off(opened: &OpenDevice<'_>) -> Option<String> {
    let view = &opened.checked.as_ref()?.view;
    let bytes = view.blocks().saturating_mul(view.block_bytes().into());
    let size = opened.device.size();
    (bytes > size.0).then(|| {
        format!(
            "its file system has {}, but devicemapper/metadata gives it a size of {size}",
            units::Bytes(bytes)
        )
    })
}

/// A branch as a tree: known from a conversion, or just read.
enum Branch<'a> {
    Known(&'a Layer),
    Read(Box<Layer>),
}

impl<'r, 'a> LayerCheck<'r, 'a> {
    /// The layer's branch in aufs.
    fn branch(&self) -> Result<Option<Branch<'r>>, Halt> {
        if let Some(layer) = self.run.known_branches.get(self.id) {
            return Ok(Some(Branch::Known(layer)));
        }
        let Some(aufs) = self.run.aufs.filter(|_| self.is_in_aufs()) else {
            return Ok(None);
        };
        let branch = aufs.join("diff").join(self.id.as_str());
        if branch.symlink_metadata().is_err() && self.branch_now() == BranchNow::Missing {
            return Ok(None);
        }
        let chain = self.target.known.chain();
        // Of the two records, this is the one that no conversion has touched.
        let tar_split = chain.map(|chain| {
            let original = self.run.original.as_deref();
            original.map_or_else(
                || self.run.store.tar_split(&chain),
                |store| tar_split_in(store, &chain),
            )
        });
        let layer = read_branch(&self.run.work, self.id, &branch, tar_split.as_deref())?;
        Ok(Some(Branch::Read(Box::new(layer))))
    }

    /// The digest of the device's entries, if those of its parent can be read.
    fn entries(&self) -> Option<String> {
        let view =
            |opened: &'r OpenDevice<'a>| opened.checked.as_ref().map(|checked| &checked.view);
        let (parent, child) = (self.below.and_then(view)?, self.opened.and_then(view)?);
        Some(delta::digest(parent, child))
    }

    /// The conversion's record of that digest.
    pub(super) fn noted_entries(&self) -> Option<&'r str> {
        let entries = self.run.noted?.entries.get(self.id.as_str());
        entries.map(|digest| &**digest)
    }

    /// Whether the device's entries match the conversion's record.
    pub(super) fn is_as_noted(&self, entries: Option<&str>) -> bool {
        let noted = self.noted_entries();
        noted.is_some() && noted == entries
    }

    /// What is known about the bytes of its files when both sides were the same.
    fn bytes_then(&self) -> BytesThen<'r> {
        let Some(noted) = self.run.noted else {
            return BytesThen::Aufs;
        };
        let digest = noted.bytes.get(self.id.as_str());
        digest.map_or(BytesThen::Unknown, |digest| BytesThen::Noted(digest))
    }

    /// The state of a branch that the conversion recorded.
    fn branch_now(&self) -> BranchNow {
        match self.run.noted.filter(|_| self.run.aufs.is_some()) {
            Some(noted) => (noted.branch)(self.id),
            None => BranchNow::Unknown,
        }
    }

    /// Whether there is a branch, even if aufs's lists of parents have changed since.
    fn is_in_aufs(&self) -> bool {
        let is_there = || matches!(self.branch_now(), BranchNow::Same | BranchNow::Changed);
        self.target.known.in_aufs || is_there()
    }

    fn unreadable_branch(&self, mut report: LayerReport, halt: &Halt) -> Result<LayerReport, Halt> {
        if let Halt::Interrupted = halt {
            return Err(Halt::Interrupted);
        }
        let reason = Chain(halt).to_string();
        // Aufs has it, but nothing can be said about it.
        report.not_verified.get_or_insert_with(|| reason.clone());
        report.tree = Tree::NotCompared {
            reason: reason.clone(),
        };
        report.contents = match self.contents(ContentsMode::Read, None, None, &report) {
            Ok(judged) => judged.contents,
            Err(Halt::Interrupted) => return Err(Halt::Interrupted),
            Err(_) => Contents::NotVerifiable { reason },
        };
        Ok(report)
    }

    fn below_view(&self) -> Option<&'r View> {
        let checked = self.below.and_then(|below| below.checked.as_ref());
        checked.map(|checked| &checked.view)
    }

    fn compare(
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

    fn compare_space(
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

    fn tree(&self, compared: Option<&EntryComparison>, report: &LayerReport) -> Tree {
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
    fn without_branch(&self, report: &LayerReport) -> Tree {
        let lost = format!("aufs/diff/{}: is missing", self.id);
        let mut entries: Faults = std::iter::once(lost).collect();
        if !self.is_other_than_noted(report) {
            return Tree::AufsChanged { entries };
        }
        entries.push(NOT_AS_NOTED);
        Tree::Different { entries }
    }

    /// Whether the device's entries are known to differ from the conversion's record, and not through the work of its
    /// container.
    fn is_other_than_noted(&self, report: &LayerReport) -> bool {
        let is_noted = self.opened.is_some() && self.noted_entries().is_some();
        is_noted && !self.is_used_since(report) && !self.is_as_noted(report.entries.as_deref())
    }

    /// Why aufs has no branch of the layer.
    fn why_no_branch(&self) -> &'static str {
        if self.run.aufs.is_none() {
            "there is no aufs side"
        } else if self.branch_now() == BranchNow::Missing {
            "its branch is missing from the aufs side"
        } else {
            "it was created after the conversion"
        }
    }

    fn why_not_compared(&self) -> &'static str {
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

    /// When the conversion recorded its device, in seconds since 1970.
    pub(super) fn noted_at(&self) -> Option<i64> {
        let noted = self.run.noted;
        let written_at = noted.and_then(|noted| (noted.written_at)(self.id));
        let switched_at = noted.and_then(|noted| noted.switched_at);
        let home = self.run.devices.as_ref()?.home;
        noted_at(home, self.id, (written_at, switched_at))
    }

    /// Whether the kernel mounted the file system writable after the conversion recorded its device: its container was
    /// used, or Docker copied something there. Damage does not count as a mount.
    fn went_on(&self, mounted: Option<i64>) -> bool {
        mounted
            .zip(self.noted_at())
            .is_some_and(|(mounted, noted)| mounted > noted)
    }

    /// Whether it is a container's layer that may legitimately differ from aufs.
    fn is_used_since(&self, report: &LayerReport) -> bool {
        report.role == Role::Writable && self.went_on(report.mounted)
    }

    /// The contents of a layer whose container was used since. What the kernel has not changed since must still match
    /// aufs.
    fn contents_left(
        &self,
        how: ContentsMode<'_>,
        branch: Option<&Layer>,
        compared: Option<&EntryComparison>,
    ) -> Result<Contents, Halt> {
        // Differences that are in aufs alone are reported for aufs.
        let mut files = compared
            .filter(|compared| !compared.is_of_aufs)
            .map_or_else(Faults::default, |compared| compared.untouched.clone());
        if let (ContentsMode::Read, Some(branch), Some(compared)) = (how, branch, compared)
            && let Ok(Some(device)) = self.on_device()
        {
            let sides = (branch, compared);
            let bytes = Bytes::compare(&self.run.work, sides, device, self.noted_at())?;
            files.append(bytes.faults(branch, NOT_WRITTEN));
        }
        if !files.is_empty() {
            return Ok(Contents::Undecided { files });
        }
        Ok(Contents::NotVerifiable {
            reason: WENT_ON.to_owned(),
        })
    }

    fn contents(
        &self,
        how: ContentsMode<'_>,
        branch: Option<&Layer>,
        compared: Option<&EntryComparison>,
        report: &LayerReport,
    ) -> Result<ContentsVerdict, Halt> {
        if let Tree::ChangedSince { .. } = report.tree {
            return self
                .contents_left(how, branch, compared)
                .map(ContentsVerdict::from);
        }
        let device = match self.on_device() {
            Ok(device) => device,
            Err(grade) => return Ok(grade.into()),
        };
        let chain = self.target.known.chain();
        let layer = chain.and_then(|chain| Some((chain, self.run.store.layers.get(&chain)?)));
        let subject = |record| Subject {
            work: &self.run.work,
            record,
            device,
            branch,
            compared,
            below: self.below_view(),
            owner: self.run.owner,
            bytes_then: self.bytes_then(),
            went_on: self.went_on(report.mounted),
            reads_aufs: self.run.reads_aufs,
        };
        let by_record = match layer {
            None => subject(None).contents(how),
            Some((chain, layer)) => match self.run.store.open_tar_split(&chain) {
                Ok(file) => subject(file.map(|file| (layer.diff, file))).contents(how),
                Err(error) => Err(error.into()),
            },
        };
        let mut judged = match (by_record, layer) {
            (Err(halt @ (Halt::TarSplit(_) | Halt::Store(_))), Some((chain, _))) => {
                let how = match how {
                    ContentsMode::Not => ContentsMode::Not,
                    _ => ContentsMode::Read,
                };
                let without = subject(None).contents(how)?;
                ContentsVerdict {
                    contents: self.damaged_record(&chain, &halt, without.contents),
                    ..without
                }
            }
            (judged, _) => judged?,
        };
        judged.contents = self.with_carried(judged.contents, compared)?;
        Ok(judged)
    }

    /// The layer's tree on its device; `None` if there are no devices yet. If the device has no tree, the verdict on
    /// the layer is the error.
    fn on_device(&self) -> Result<Option<(ThinDevice<'a>, DeviceTree<'r>)>, Contents> {
        let Some(opened) = self.opened else {
            return match &self.run.devices {
                Some(_) => Err(Contents::Nothing),
                None => Ok(None),
            };
        };
        let view = opened.checked.as_ref().map(|checked| &checked.view);
        match view.and_then(DeviceTree::of) {
            Some(tree) => Ok(Some((opened.device, tree))),
            None => Err(Contents::NotVerifiable {
                reason: "its file system cannot be read here".to_owned(),
            }),
        }
    }

    /// Docker's record of the layer's tar.
    pub(super) fn record(&self) -> Result<Option<(DiffId, File)>, Halt> {
        let Some(chain) = self.target.known.chain() else {
            return Ok(None);
        };
        let Some(layer) = self.run.store.layers.get(&chain) else {
            return Ok(None);
        };
        let file = self.run.store.open_tar_split(&chain)?;
        Ok(file.map(|file| (layer.diff, file)))
    }

    /// The verdict on a layer whose record cannot be read.
    pub(super) fn unrecorded(&self, halt: &Halt, without: Contents) -> Contents {
        match self.target.known.chain() {
            Some(chain) => self.damaged_record(&chain, halt, without),
            None => without,
        }
    }

    /// The verdict on a layer whose tar Docker cannot make any more, whatever the comparison says about its files.
    fn damaged_record(&self, chain: &ChainId, halt: &Halt, without: Contents) -> Contents {
        let record = self.run.store.tar_split(chain);
        let what = match halt {
            Halt::TarSplit(error) => format!("{}: {}", shown(&record), Chain(error)),
            _ => Chain(halt).to_string(),
        };
        if let Halt::TarSplit(tar_split::Error::Unjustified { .. }) = halt {
            return unbelieved(what, without);
        }
        let fault = format!("{what}; Docker cannot save or push the layer");
        let was_so = match &self.run.original {
            Some(original) => docker::same_bytes(&tar_split_in(original, chain), &record),
            None => self.run.devices.is_none(),
        };
        match without {
            Contents::Mismatch { mut files, before } => {
                files.push(fault);
                Contents::Mismatch { files, before }
            }
            Contents::Undecided { mut files } => {
                files.push(fault);
                if was_so {
                    Contents::Undecided { files }
                } else {
                    Contents::mismatch(files)
                }
            }
            _ if was_so => Contents::SourceDamaged {
                files: [fault].into_iter().collect(),
            },
            _ => Contents::mismatch([fault].into_iter().collect()),
        }
    }

    /// Checks the file beside the tree with which Docker marks the first device of a chain: it contains the layer's id.
    fn check_mark(&self, compared: &mut EntryComparison) {
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

    /// Adds what the device holds of its parent's files in blocks of its own.
    fn with_carried(
        &self,
        contents: Contents,
        compared: Option<&EntryComparison>,
    ) -> Result<Contents, Halt> {
        let (Some(opened), Some(below), Some(compared)) = (self.opened, self.below, compared)
        else {
            return Ok(contents);
        };
        let (Some(checked), Some(changed), Some(parent)) =
            (&opened.checked, &opened.changed, self.below_view())
        else {
            return Ok(contents);
        };
        if self.run.mode != Mode::Full || matches!(contents, Contents::Mismatch { .. }) {
            return Ok(contents);
        }
        let child = (opened.device, &checked.view);
        let parent = (below.device, parent);
        let mut differing = carried::differing(&self.run.work, child, parent, changed, compared)?;
        if differing.is_empty() {
            return Ok(contents);
        }
        let before = match contents {
            Contents::SourceDamaged { files } => files,
            Contents::Undecided { files } => {
                differing.append(files);
                Faults::default()
            }
            _ => Faults::default(),
        };
        Ok(Contents::Mismatch {
            files: differing,
            before,
        })
    }
}

/// The verdict on a layer whose record is not credible: what the comparison with aufs found replaces it.
fn unbelieved(what: String, without: Contents) -> Contents {
    match without {
        Contents::Mismatch { .. } | Contents::Undecided { .. } => without,
        Contents::Verified { files, .. } => Contents::NotVerifiable {
            reason: format!("{what}; its {files} files have the same content in aufs"),
        },
        _ => Contents::NotVerifiable { reason: what },
    }
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}

/// The path of a layer's tar-split in an image store.
fn tar_split_in(store: &Path, chain: &ChainId) -> PathBuf {
    let layers = store.join("layerdb/sha256");
    layers.join(chain.file_name()).join("tar-split.json.gz")
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
fn base_tree(opened: Option<&OpenDevice<'_>>) -> Tree {
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
