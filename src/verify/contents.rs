//! The grade of a layer's contents.

use std::fs::File;
use std::io::Seek;

use super::branch::BranchFiles;
use super::compare::Compared;
use super::device::{DeviceFiles, DeviceTree, TarFiles};
use super::entries::Entries;
use super::error::Halt;
use super::pool::ThinDevice;
use super::proof::{Proven, by_checksums, by_digest};
use super::recorded::nr_names;
use super::report::{Contents, Faults, Proof};
use super::unpack::Unpack;
use super::whose::Whose;
use super::work::Work;
use super::written::Written;
use crate::docker::{DiffId, Owner};
use crate::ext4::Ino;
use crate::ext4::read::{Inode, View};
use crate::plan::Layer;
use crate::tar_split;
use crate::tree::{LayerTree, NodeId, Regular, Segment};

/// Why files of a container's layer that aufs has changed since are not verified.
pub(super) const CHANGED_IN_AUFS: &str =
    "aufs has changed it since the conversion, and Docker keeps no digest of it";

/// How a layer's contents are looked at.
#[derive(Clone, Copy, Debug)]
pub(super) enum How<'a> {
    /// Read back.
    Read,
    /// By the checksums of what was written.
    Checksums(Written<'a>),
    /// Not at all.
    Not,
}

/// A layer with all that is there of it.
pub(super) struct Subject<'a> {
    pub(super) work: &'a Work<'a>,
    /// What Docker recorded of its tar.
    pub(super) record: Option<(DiffId, File)>,
    /// What its device has.
    pub(super) device: Option<(ThinDevice<'a>, DeviceTree<'a>)>,
    /// What aufs has.
    pub(super) branch: Option<&'a Layer>,
    /// What the comparison of the two found.
    pub(super) compared: Option<&'a Compared>,
    /// What its device is a snapshot of.
    pub(super) below: Option<&'a View>,
    /// The owner of container root, by the root's name.
    pub(super) owner: Owner,
}

/// What there is to say of a layer's contents and entries.
pub(super) struct Judged {
    /// The grade.
    pub(super) contents: Contents,
    /// What only aufs has otherwise than the layer's tar.
    pub(super) aufs: Faults,
}

impl From<Contents> for Judged {
    fn from(contents: Contents) -> Self {
        Self {
            contents,
            aufs: Faults::default(),
        }
    }
}

impl Subject<'_> {
    /// Looks at the contents, and at the entries that the layer's tar has.
    pub(super) fn contents(mut self, how: How<'_>) -> Result<Judged, Halt> {
        let record = self.record.take();
        let Some((device, tree)) = self.device else {
            return self.of_branch(record).map(Judged::from);
        };
        let Some((diff, tar_split)) = record else {
            let contents = match how {
                How::Read => self.by_comparison(device, tree)?,
                _ => Contents::NotRead,
            };
            return Ok(contents.into());
        };
        let mut unpack = self.unpack();
        let again = tar_split.try_clone().map_err(unreadable)?;
        let files = DeviceFiles::new(self.work, device, tree);
        let tar_files = |written| TarFiles::new(files, &tree, (written, self.below));
        let proven = match how {
            How::Checksums(written) => {
                by_checksums(tar_split, &mut tar_files(Some(written)), &mut unpack)?
            }
            How::Read => by_digest((tar_split, diff), &mut tar_files(None), &mut unpack)?,
            How::Not => {
                tar_split::headers(tar_split, &mut unpack)?;
                return Ok(judged(self.entries(unpack, None), Contents::NotRead));
            }
        };
        let entries = self.entries(unpack, proven.is_layer);
        if !proven.is_wrong() {
            let mut judged = judged(entries, proven.grade());
            judged.contents = self.or_compared(judged.contents, device, tree)?;
            return Ok(judged);
        }
        let Whose {
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

    /// The files of a layer that its record does not prove, compared with the branch.
    fn or_compared(
        &self,
        contents: Contents,
        device: ThinDevice<'_>,
        tree: DeviceTree<'_>,
    ) -> Result<Contents, Halt> {
        let Contents::NotVerifiable { reason } = contents else {
            return Ok(contents);
        };
        Ok(match self.by_comparison(device, tree)? {
            Contents::Verified { files, .. } => Contents::NotVerifiable {
                reason: format!("{reason}; aufs has the same content in its {files} files"),
            },
            Contents::Mismatch { files, before } => Contents::Mismatch { files, before },
            _ => Contents::NotVerifiable { reason },
        })
    }

    /// Tells the files that were so before the conversion, since aufs has the same, from those that only one side has wrong.
    fn whose_fault(
        &self,
        proven: &Proven,
        mut tar_split: File,
        device: (ThinDevice<'_>, DeviceTree<'_>),
    ) -> Result<Whose, Halt> {
        let (Some(compared), Some(layer)) = (self.compared, self.branch) else {
            return Ok(Whose {
                wrong: proven.faults(),
                ..Whose::default()
            });
        };
        tar_split.rewind().map_err(unreadable)?;
        let mut files = BranchFiles::new(self.work, layer)?;
        let in_aufs = by_checksums(tar_split, &mut files, &mut self.unpack())?;
        let must_compare = Whose::needs_bytes(proven, &in_aufs);
        let (device, tree) = device;
        let same_bytes =
            !must_compare || self.differing_bytes(compared, device, tree)?.1.is_empty();
        Ok(Whose::of((proven, &in_aufs), compared, same_bytes))
    }

    /// The files of a layer of which nothing was recorded, compared with the branch.
    fn by_comparison(
        &self,
        device: ThinDevice<'_>,
        tree: DeviceTree<'_>,
    ) -> Result<Contents, Halt> {
        let Some(compared) = self.compared else {
            return Ok(Contents::NotVerifiable {
                reason: "it has no tar-split, and aufs has it not".to_owned(),
            });
        };
        if compared.files.is_empty() && !compared.is_of_aufs {
            return Ok(Contents::Nothing);
        }
        let (bytes, faults) = self.differing_bytes(compared, device, tree)?;
        Ok(if faults.is_empty() && compared.is_of_aufs {
            Contents::NotVerifiable {
                reason: CHANGED_IN_AUFS.to_owned(),
            }
        } else if faults.is_empty() {
            Contents::Verified {
                by: Proof::Comparison,
                files: compared.files.len() as u64,
                bytes,
                entries: None,
            }
        } else {
            Contents::mismatch(faults)
        })
    }

    /// Compares the bytes of all files of the branch; returns how many there are, and the files that differ.
    fn differing_bytes(
        &self,
        compared: &Compared,
        device: ThinDevice<'_>,
        tree: DeviceTree<'_>,
    ) -> Result<(u64, Faults), Halt> {
        let Some(layer) = self.branch else {
            return Ok((0, Faults::default()));
        };
        let mut branch = BranchFiles::new(self.work, layer)?;
        let mut files = DeviceFiles::new(self.work, device, tree);
        let mut faults = Faults::default();
        let mut total = 0;
        let mut other = Vec::new();
        for &(node, ino) in &compared.files {
            if compared.is_of_aufs && !self.is_same_file(node, ino, tree) {
                continue;
            }
            let size = layer.tree.regular(node).map_or(0, |file| file.size);
            files.open(ino, size);
            let mut differs = None;
            let parts = either_has_data(layer.tree.regular(node), files.data());
            branch.read_parts(node, &parts, &mut |offset, bytes| {
                if differs.is_some() {
                    return Ok(());
                }
                other.resize(bytes.len(), 0);
                files
                    .read_at(&mut other, offset)
                    .map_err(|source| Halt::Device {
                        path: layer.tree.display_path(node),
                        source,
                    })?;
                let at = bytes.iter().zip(&other).position(|(a, b)| a != b);
                differs = at.map(|at| offset + at as u64);
                Ok(())
            })?;
            if let Some(at) = differs {
                let path = layer.tree.display_path(node);
                faults.push(format_args!("{path}: differs from aufs from byte {at} on"));
            }
            total += size;
        }
        Ok((total, faults))
    }

    /// Whether a file has the same time of modification on both sides. One that aufs wrote since the conversion has not, and says
    /// nothing of what is on the device.
    fn is_same_file(&self, node: NodeId, ino: Ino, tree: DeviceTree<'_>) -> bool {
        let inode = tree.view.inode(ino);
        self.branch
            .zip(inode)
            .is_some_and(|(layer, inode)| layer.tree.node(node).meta.mtime == inode.meta().mtime)
    }

    /// What aufs has, where there is no device yet: damage that is there before any conversion.
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

    /// Where the layer's tar is unpacked.
    fn unpack(&self) -> Unpack {
        // A branch may have lost more than the device, or the other way round.
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
        // A directory may be called like one of `--userns-remap` and be none.
        let is_shifted = root == Some((self.owner.uid, self.owner.gid));
        let unshifted = Owner { uid: 0, gid: 0 };
        Unpack::new(if is_shifted { self.owner } else { unshifted }, names)
    }

    fn entries(&self, unpack: Unpack, is_layer: Option<bool>) -> Entries {
        if is_layer == Some(false) {
            return Entries::unknown("the recorded tar is not the one of the layer's DiffID");
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

fn unreadable(source: std::io::Error) -> tar_split::Error {
    tar_split::Error::Io { line: 0, source }
}

fn judged(entries: Entries, contents: Contents) -> Judged {
    let aufs = entries.aufs.clone();
    Judged {
        contents: entries.added_to(contents),
        aufs,
    }
}

/// The parts of a file in which aufs or the device has data: holes on both sides are zeros on both, however large they are.
fn either_has_data(file: Option<&Regular>, device: impl Iterator<Item = Segment>) -> Vec<Segment> {
    let Some(file) = file else {
        return Vec::new();
    };
    let whole = [Segment {
        start: 0,
        end: file.size,
    }];
    let aufs = file.segments.as_ref().map_or(&whole[..], |all| &all[..]);
    let mut all: Vec<Segment> = aufs.iter().copied().chain(device).collect();
    all.sort_unstable_by_key(|part| part.start);
    let mut parts: Vec<Segment> = Vec::with_capacity(all.len());
    for part in all {
        let end = part.end.min(file.size);
        match parts.last_mut() {
            Some(last) if part.start <= last.end => last.end = last.end.max(end),
            _ if part.start < end => parts.push(Segment { end, ..part }),
            _ => {}
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment((start, end): (u64, u64)) -> Segment {
        Segment { start, end }
    }

    #[test]
    fn only_what_is_a_hole_on_both_sides_is_left_out() {
        let parts = |aufs: Option<&[(u64, u64)]>, device: &[(u64, u64)]| {
            let segments = aufs.map(|all| Box::new(all.iter().copied().map(segment).collect()));
            let file = Regular {
                size: 100,
                segments,
            };
            let parts = either_has_data(Some(&file), device.iter().copied().map(segment));
            let ends = |part: &Segment| (part.start, part.end);
            parts.iter().map(ends).collect::<Vec<_>>()
        };
        assert_eq!(parts(None, &[]), [(0, 100)]);
        assert_eq!(parts(Some(&[]), &[]), []);
        assert_eq!(parts(Some(&[(10, 20)]), &[]), [(10, 20)]);
        assert_eq!(
            parts(Some(&[(10, 20)]), &[(60, 140)]),
            [(10, 20), (60, 100)]
        );
        assert_eq!(
            parts(Some(&[(10, 20), (40, 50)]), &[(0, 12), (20, 30)]),
            [(0, 30), (40, 50)]
        );
        assert_eq!(parts(Some(&[(10, 20)]), &[(100, 104)]), [(10, 20)]);
    }
}
