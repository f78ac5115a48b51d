//! The contents of the layer's files, proven by Docker's record of its tar or by its branch.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::branch::tar_split_in;
use crate::chain::Chain;
use crate::content::pool::ThinDevice;
use crate::content::{DeviceTree, Halt};
use crate::docker::{self, ChainId, DiffId};
use crate::source::Layer;
use crate::tar_split;
use crate::tree::escape;
use crate::verify::bytes::Bytes;
use crate::verify::carried;
use crate::verify::compare::EntryComparison;
use crate::verify::contents::{ContentsMode, ContentsVerdict, Subject};
use crate::verify::layer_check::LayerCheck;
use crate::verify::layer_report::{Contents, Faults, LayerReport, Tree};
use crate::verify::reasons::{NOT_WRITTEN, WENT_ON};
use crate::verify::report::Mode;

impl<'r, 'a> LayerCheck<'r, 'a> {
    pub(super) fn unreadable_branch(
        &self,
        mut report: LayerReport,
        halt: &Halt,
    ) -> Result<LayerReport, Halt> {
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

    /// The contents of a layer whose container was used since. What the kernel has not changed since must still match
    /// aufs.
    pub(super) fn contents_left(
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

    pub(super) fn contents(
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
        // A record that cannot be read excuses no file: all are compared as if there were none, and the record's own fault is
        // added to what that finds.
        let mut judged = match (by_record, layer) {
            (Err(halt @ (Halt::TarSplit(_) | Halt::Store(_))), Some((chain, _))) => {
                // Without a record, checksums of what was written have nothing to be compared with.
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
    pub(super) fn on_device(&self) -> Result<Option<(ThinDevice<'a>, DeviceTree<'r>)>, Contents> {
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
    pub(in crate::verify) fn record(&self) -> Result<Option<(DiffId, File)>, Halt> {
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
    pub(in crate::verify) fn unrecorded(&self, halt: &Halt, without: Contents) -> Contents {
        match self.target.known.chain() {
            Some(chain) => self.damaged_record(&chain, halt, without),
            None => without,
        }
    }

    /// The verdict on a layer whose tar Docker cannot make any more, whatever the comparison says about its files.
    pub(super) fn damaged_record(
        &self,
        chain: &ChainId,
        halt: &Halt,
        without: Contents,
    ) -> Contents {
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

    /// Adds what the device holds of its parent's files in blocks of its own.
    pub(super) fn with_carried(
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
