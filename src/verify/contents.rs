//! The verdict on a layer's contents.

use std::fs::File;
use std::io::Seek;

use super::bytes::Bytes;
use super::compare::EntryComparison;
use super::conversion_notes::NotedBytes;
use super::delta;
use super::entries::Entries;
use super::faults_by_side::FaultsBySide;
use super::layer_report::{Contents, Faults, LayerReport, Proof};
use super::proof::{ProofOutcome, by_checksums, by_digest};
use super::reasons::{CHANGED_IN_AUFS, WENT_ON};
use super::recorded::nr_names;
use super::unpack::Unpack;
use crate::chain::Chain;
use crate::content::pool::ThinDevice;
use crate::content::{
    BranchFiles, DeviceFiles, DeviceTree, Halt, ReadJob, TarFiles, WriteChecksums,
};
use crate::docker::{DiffId, Owner};
use crate::ext4::Ino;
use crate::ext4::read::{Inode, View};
use crate::source::Layer;
use crate::tar_split;
use crate::tree::LayerTree;

/// The texts for a file whose bytes differ, by the side that may be at fault.
const DEVICE: &str = "differs from aufs";
const AUFS: &str = "differs from what was converted,";

/// How a layer's contents are checked.
#[derive(Clone, Copy, Debug)]
pub(super) enum ContentsMode<'a> {
    /// They are read back.
    Read,
    /// By the checksums of what was written.
    Checksums(WriteChecksums<'a>),
    /// They are not checked.
    Not,
}

/// A layer with everything that is available about it.
pub(super) struct Subject<'a> {
    pub(super) work: &'a ReadJob<'a>,
    /// Docker's record of its tar.
    pub(super) record: Option<(DiffId, File)>,
    /// Its device.
    pub(super) device: Option<(ThinDevice<'a>, DeviceTree<'a>)>,
    /// Its branch in aufs.
    pub(super) branch: Option<&'a Layer>,
    /// The result of comparing the two.
    pub(super) compared: Option<&'a EntryComparison>,
    /// The device below, of which its device is a snapshot.
    pub(super) below: Option<&'a View>,
    /// The owner of container root, from the name of the root directory.
    pub(super) owner: Owner,
    /// The bytes of its files when both sides were the same.
    pub(super) bytes_then: NotedBytes<'a>,
    /// Whether its container has used it since.
    pub(super) went_on: bool,
    /// Whether the branch is read even if the device is proven.
    pub(super) reads_aufs: bool,
}

/// The result for a layer's contents and entries.
pub(super) struct ContentsVerdict {
    /// The grade.
    pub(super) contents: Contents,
    /// Where only aufs differs from the layer's tar, or from what was converted.
    pub(super) aufs: Faults,
    /// The digest of its files' bytes, if no tar says what these must be and both sides are known to be the same.
    pub(super) bytes: Option<String>,
    /// Whether the branch was read although the device is proven.
    pub(super) read_in_aufs: bool,
}

impl ContentsVerdict {
    /// Puts the result into a layer's report.
    pub(super) fn tell(self, report: &mut LayerReport) {
        report.contents = self.contents;
        report.aufs = self.aufs;
        report.own_bytes = self.bytes;
        report.read_in_aufs = self.read_in_aufs;
    }

    /// Adds further differences of aufs alone, except those already listed.
    fn with_aufs(mut self, aufs: Faults) -> Self {
        let is_new = |fault: &String| !self.aufs.first.contains(fault);
        let new: Vec<_> = aufs.first.into_iter().filter(is_new).collect();
        for fault in new {
            self.aufs.push(fault);
        }
        self.aufs.more += aufs.more;
        self
    }
}

impl From<Contents> for ContentsVerdict {
    fn from(contents: Contents) -> Self {
        Self {
            contents,
            aufs: Faults::default(),
            bytes: None,
            read_in_aufs: false,
        }
    }
}

impl Subject<'_> {
    /// Checks the contents, and the entries that the layer's tar has.
    pub(super) fn contents(mut self, how: ContentsMode<'_>) -> Result<ContentsVerdict, Halt> {
        let record = self.record.take();
        let Some((device, tree)) = self.device else {
            // Nothing was converted yet, so there is no second side to hold the branch against: only the record judges
            // it.
            return self.of_branch(record).map(ContentsVerdict::from);
        };
        let Some((diff, tar_split)) = record else {
            // Without a record of its tar, nothing says what the layer's bytes must be, and only aufs has them a second
            // time. At the end of a conversion they are not read: the checksums of what was written give the digest
            // that later shows which side has changed.
            let mut judged = ContentsVerdict::from(Contents::NotRead);
            match how {
                ContentsMode::Read => judged = self.by_comparison(device, tree)?,
                ContentsMode::Checksums(written) => {
                    judged.bytes = self.written_bytes(&written, (device, tree))?;
                }
                ContentsMode::Not => {}
            }
            return Ok(judged);
        };
        let mut unpack = self.unpack();
        // The first reading takes the file itself. The two share their position, so whoever reads it again rewinds
        // first.
        let again = tar_split.try_clone().map_err(unreadable)?;
        let files = DeviceFiles::new(self.work, device, tree);
        let tar_files = |written| TarFiles::new(files, &tree, (written, self.below));
        let proven = match how {
            ContentsMode::Checksums(written) => {
                by_checksums(tar_split, &mut tar_files(Some(written)), &mut unpack)?
            }
            ContentsMode::Read => by_digest((tar_split, diff), &mut tar_files(None), &mut unpack)?,
            ContentsMode::Not => {
                // Entries cost no reading of files, so they are compared even where bytes are not.
                tar_split::headers(tar_split, &mut unpack)?;
                return Ok(judged(self.entries(unpack, None), Contents::NotRead));
            }
        };
        // After the proof: only then is it known whether the headers are of the layer that images name.
        let entries = self.entries(unpack, proven.is_layer);
        if !proven.is_wrong() {
            let judged = self.or_compared(judged(entries, proven.grade()), device, tree)?;
            // A device that is proven says nothing about the branch, which is the way back.
            return self.with_bytes_of_aufs(judged, device, tree);
        }
        let FaultsBySide {
            before,
            wrong,
            aufs,
        } = self.whose_fault(&proven, again, (device, tree))?;
        let contents = if wrong.is_empty() {
            Contents::SourceDamaged { files: before }
        } else {
            Contents::Mismatch {
                files: wrong,
                before,
            }
        };
        let mut judged = judged(entries, contents);
        judged.aufs.append(aufs);
        Ok(judged)
    }

    /// Compares the files of a layer that its record does not prove with the branch.
    fn or_compared(
        &self,
        mut judged: ContentsVerdict,
        device: ThinDevice<'_>,
        tree: DeviceTree<'_>,
    ) -> Result<ContentsVerdict, Halt> {
        let Contents::NotVerifiable { reason } = &judged.contents else {
            return Ok(judged);
        };
        // The record is no proof here, but neither does it accuse anyone. The branch cannot make up for it, so equal
        // bytes leave the grade and add to its reason. Different ones are worse than no proof and take its place.
        let compared = self.by_comparison(device, tree)?;
        judged.bytes = compared.bytes;
        judged.contents = match compared.contents {
            Contents::Verified {
                by: Proof::Comparison,
                files,
                ..
            } => Contents::NotVerifiable {
                reason: format!("{reason}; its {files} files have the same content in aufs"),
            },
            wrong @ (Contents::Mismatch { .. } | Contents::Undecided { .. }) => wrong,
            _ => return Ok(judged.with_aufs(compared.aufs)),
        };
        Ok(judged.with_aufs(compared.aufs))
    }

    /// Adds the files of a proven layer whose bytes differ in aufs, if aufs was written to.
    fn with_bytes_of_aufs(
        &self,
        mut judged: ContentsVerdict,
        device: ThinDevice<'_>,
        tree: DeviceTree<'_>,
    ) -> Result<ContentsVerdict, Halt> {
        let (Some(compared), Some(layer)) = (self.compared, self.branch) else {
            return Ok(judged);
        };
        let is_proven = matches!(
            judged.contents,
            Contents::Verified {
                by: Proof::DiffId,
                ..
            }
        );
        if !self.reads_aufs || !is_proven {
            return Ok(judged);
        }
        // The device has the layer's own digest, so wherever the two differ the branch is wrong, and no note has to
        // decide.
        match self.bytes(compared, device, tree) {
            Ok(bytes) => judged.aufs.append(bytes.faults(layer, AUFS)),
            Err(Halt::Interrupted) => return Err(Halt::Interrupted),
            // What cannot be read is not right.
            Err(halt) => judged.aufs.push(Chain(&halt)),
        }
        judged.read_in_aufs = true;
        Ok(judged)
    }

    /// Separates files that were already wrong before the conversion, because aufs has the same, from files that only
    /// one side has wrong.
    fn whose_fault(
        &self,
        proven: &ProofOutcome,
        mut tar_split: File,
        device: (ThinDevice<'_>, DeviceTree<'_>),
    ) -> Result<FaultsBySide, Halt> {
        let (Some(compared), Some(layer)) = (self.compared, self.branch) else {
            return Ok(FaultsBySide {
                wrong: proven.faults(),
                ..FaultsBySide::default()
            });
        };
        // Checksums alone are enough of the branch: what counts is which of its files differ, not whether their sum is
        // the layer.
        tar_split.rewind().map_err(unreadable)?;
        let mut files = BranchFiles::new(self.work, layer)?;
        let in_aufs = by_checksums(tar_split, &mut files, &mut self.unpack())?;
        // Equal checksums count as equal bytes. A file of another size has none, since it was not read, so the same
        // fault on both sides does not make it the same file.
        let must_compare = FaultsBySide::needs_bytes(proven, &in_aufs);
        let (device, tree) = device;
        let same_bytes = !must_compare || self.bytes(compared, device, tree)?.are_same();
        Ok(FaultsBySide::of((proven, &in_aufs), compared, same_bytes))
    }

    /// Compares the files of a layer that has no record with the branch.
    fn by_comparison(
        &self,
        device: ThinDevice<'_>,
        tree: DeviceTree<'_>,
    ) -> Result<ContentsVerdict, Halt> {
        let Some(compared) = self.compared else {
            return self
                .by_what_was_noted((device, tree), "it has no tar-split, and it is not in aufs");
        };
        // The list has only files that both sides have in one size. Where aufs alone was changed, an empty one may mean
        // that aufs lost or resized them, and the device still has something to prove.
        if compared.files.is_empty() && !compared.is_of_aufs {
            return Ok(Contents::Nothing.into());
        }
        let bytes = self.bytes(compared, device, tree)?;
        if !bytes.are_same() {
            return self.differing(compared, &bytes, (device, tree));
        }
        // For the same reason equal bytes prove only the files that were compared. The rest is for the digest to tell.
        if compared.is_of_aufs {
            return self.by_what_was_noted((device, tree), CHANGED_IN_AUFS);
        }
        // Both sides are the same, so a digest can be recorded that later shows which side has changed. If a file of
        // the device was not read, there is no digest: a digest of a part would never match the one of all files.
        let digest = self.below.map_or(Ok(None), |below| {
            delta::digest_of_bytes((below, tree.view), |ino, _| {
                Ok::<_, Halt>(bytes.on_device(ino))
            })
        });
        Ok(ContentsVerdict {
            bytes: digest?,
            ..Contents::Verified {
                by: Proof::Comparison,
                files: compared.files.len() as u64,
                bytes: bytes.total,
                entries: None,
            }
            .into()
        })
    }

    /// Verifies the files of a layer for which aufs is not a sufficient reference, by the digest recorded when both
    /// sides were the same. Without that digest nothing is verified, and `without` is the reason.
    fn by_what_was_noted(
        &self,
        (device, tree): (ThinDevice<'_>, DeviceTree<'_>),
        without: &str,
    ) -> Result<ContentsVerdict, Halt> {
        // A container that was used since has changed its device legitimately, and then the digest no longer separates
        // right from wrong.
        let (NotedBytes::Noted(noted), Some(below), false) =
            (self.bytes_then, self.below, self.went_on)
        else {
            let reason = if self.went_on { WENT_ON } else { without }.to_owned();
            return Ok(Contents::NotVerifiable { reason }.into());
        };
        let views = (below, tree.view);
        let mut files = DeviceFiles::new(self.work, device, tree);
        let now = delta::digest_of_bytes(views, |ino, size| {
            read_checksum(&mut files, ino, size).map(Some)
        })?;
        Ok(if now.as_deref() == Some(noted) {
            verified(views).into()
        } else {
            let what = "some bytes of its files on the device are not those that were converted";
            Contents::mismatch(std::iter::once(what).collect()).into()
        })
    }

    /// The verdict on a layer with files whose bytes differ between aufs and the device, decided by what was recorded
    /// when both were the same.
    fn differing(
        &self,
        compared: &EntryComparison,
        bytes: &Bytes,
        (device, tree): (ThinDevice<'_>, DeviceTree<'_>),
    ) -> Result<ContentsVerdict, Halt> {
        let Some(layer) = self.branch else {
            return Ok(Contents::Nothing.into());
        };
        // Before the move aufs is the original, and a difference is the device's. After it only what was noted decides,
        // and without a note neither side is taken for right.
        let (noted, below) = match (self.bytes_then, self.below) {
            (NotedBytes::Noted(noted), Some(below)) => (Some(noted), below),
            (NotedBytes::Unknown, _) => {
                let files = bytes.faults(layer, DEVICE);
                return Ok(Contents::Undecided { files }.into());
            }
            _ => return Ok(Contents::mismatch(bytes.faults(layer, DEVICE)).into()),
        };
        let views = (below, tree.view);
        let mut files = DeviceFiles::new(self.work, device, tree);
        // Files that differ in aufs in other ways were not read.
        let on_device = delta::digest_of_bytes(views, |ino, size| match bytes.on_device(ino) {
            Some(known) => Ok(Some(known)),
            None => read_checksum(&mut files, ino, size).map(Some),
        })?;
        let mut aufs = Faults::default();
        if compared.is_of_aufs {
            aufs.append(compared.faults.clone());
        }
        // The device first: if it is what was converted, aufs is what changed, whatever it is now.
        if on_device.as_deref() == noted {
            aufs.append(bytes.faults(layer, AUFS));
            let contents = verified(views);
            return Ok(ContentsVerdict {
                aufs,
                ..contents.into()
            });
        }
        // The device is wrong. Whether aufs can replace it is another question: it must give the noted digest of the
        // same files, and one that was not compared leaves that open, which counts as no.
        let in_aufs = delta::digest_of_bytes(views, |ino, _| Ok::<_, Halt>(bytes.in_aufs(ino)))?;
        if in_aufs.as_deref() != noted {
            let what = "some bytes of its files are not those that were converted";
            aufs.push(format_args!("aufs/diff/{}: {what}", layer.id));
        }
        Ok(ContentsVerdict {
            aufs,
            ..Contents::mismatch(bytes.faults(layer, DEVICE)).into()
        })
    }

    fn bytes(
        &self,
        compared: &EntryComparison,
        device: ThinDevice<'_>,
        tree: DeviceTree<'_>,
    ) -> Result<Bytes, Halt> {
        match self.branch {
            Some(layer) => Bytes::compare(self.work, (layer, compared), (device, tree), None),
            None => Ok(Bytes::default()),
        }
    }

    /// The digest of the files' bytes, from the checksums of what was written. Nothing is read.
    fn written_bytes(
        &self,
        written: &WriteChecksums<'_>,
        (device, tree): (ThinDevice<'_>, DeviceTree<'_>),
    ) -> Result<Option<String>, Halt> {
        let Some(below) = self.below else {
            return Ok(None);
        };
        let mut files = DeviceFiles::new(self.work, device, tree);
        delta::digest_of_bytes((below, tree.view), |ino, size| {
            self.work.go_on()?;
            files.open(ino, size);
            Ok(files.noted_checksum(written))
        })
    }

    /// Checks the branch if there is no device yet: finds damage that exists before any conversion.
    fn of_branch(&self, record: Option<(DiffId, File)>) -> Result<Contents, Halt> {
        let (Some((diff, tar_split)), Some(layer)) = (record, self.branch) else {
            return Ok(Contents::NotVerifiable {
                reason: "it has no tar-split".to_owned(),
            });
        };
        let mut files = BranchFiles::new(self.work, layer)?;
        let mut unpack = self.unpack();
        let proven = by_digest((tar_split, diff), &mut files, &mut unpack)?;
        let entries = self.entries(unpack, proven.is_layer);
        Ok(entries.added_to(if proven.is_wrong() {
            Contents::SourceDamaged {
                files: proven.faults(),
            }
        } else {
            proven.grade()
        }))
    }

    /// A new unpacking of the layer's tar.
    fn unpack(&self) -> Unpack {
        // A branch may have lost more than the device, or vice versa.
        let on_device = self.device.map_or(0, |(_, tree)| {
            let changed = |below| tree.view.changed_names(below).count();
            self.below.map_or(0, changed)
        });
        let (root, names) = match (self.branch, self.device) {
            (Some(layer), _) => {
                let meta = &layer.tree.node(LayerTree::ROOT).meta;
                let names = nr_names(&layer.tree).max(on_device);
                (Some((meta.uid, meta.gid)), names)
            }
            (None, Some((_, tree))) => {
                let root = tree.view.inode(tree.rootfs).map(Inode::meta);
                (root.map(|meta| (meta.uid, meta.gid)), on_device)
            }
            (None, None) => (None, 0),
        };
        // The directory may have a name like those of `--userns-remap` without being one.
        let is_shifted = root == Some((self.owner.uid, self.owner.gid));
        let unshifted = Owner { uid: 0, gid: 0 };
        Unpack::new(if is_shifted { self.owner } else { unshifted }, names)
    }

    fn entries(&self, unpack: Unpack, is_layer: Option<bool>) -> Entries {
        // All files may match a record that is not the layer's, and then its headers are no witness either.
        if is_layer == Some(false) {
            return Entries::unknown("the recorded tar does not have the layer's DiffID");
        }
        let view = self.device.map(|(_, tree)| tree.view);
        match unpack.finish() {
            Err(why) => Entries::unknown(why),
            Ok(tar) => Entries::compare(
                &tar,
                self.branch.map(|layer| &layer.tree),
                (self.below, view),
                self.compared,
            ),
        }
    }
}

/// The verdict on a layer whose files have the recorded bytes.
pub(super) fn verified((parent, child): (&View, &View)) -> Contents {
    let sizes = delta::files(parent, child).map(|(_, size)| size);
    let sizes: Vec<u64> = sizes.filter(|&size| size > 0).collect();
    Contents::Verified {
        by: Proof::Checksums,
        files: sizes.len() as u64,
        bytes: sizes.into_iter().fold(0, u64::saturating_add),
        entries: None,
    }
}

fn read_checksum(files: &mut DeviceFiles<'_>, ino: Ino, size: u64) -> Result<u64, Halt> {
    files.open(ino, size);
    files.read_checksum().map_err(|source| Halt::Device {
        path: format!("inode {}", ino.0),
        source,
    })
}

fn unreadable(source: std::io::Error) -> tar_split::Error {
    tar_split::Error::Io { line: 0, source }
}

fn judged(entries: Entries, contents: Contents) -> ContentsVerdict {
    let aufs = entries.aufs.clone();
    ContentsVerdict {
        aufs,
        ..entries.added_to(contents).into()
    }
}
