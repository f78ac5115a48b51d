//! The grade of a layer's contents.

use std::fs::File;

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
use super::work::Work;
use super::written::Written;
use crate::docker::{DiffId, Owner};
use crate::ext4::read::{Inode, View};
use crate::plan::Layer;
use crate::tar_split;
use crate::tree::{LayerTree, Regular, Segment};

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

impl Subject<'_> {
    /// Looks at the contents, and at the entries that the layer's tar has.
    pub(super) fn contents(mut self, how: How<'_>) -> Result<Contents, Halt> {
        let record = self.record.take();
        let Some((device, tree)) = self.device else {
            return self.of_branch(record);
        };
        let Some((diff, tar_split)) = record else {
            return match how {
                How::Read => self.by_comparison(device, tree),
                _ => Ok(Contents::NotRead),
            };
        };
        let mut unpack = self.unpack();
        let files = DeviceFiles::new(self.work, device, tree);
        let tar_files = |written| TarFiles::new(files, &tree, (written, self.below));
        let proven = match how {
            How::Checksums(written) => {
                by_checksums(tar_split, &mut tar_files(Some(written)), &mut unpack)?
            }
            How::Read => by_digest((tar_split, diff), &mut tar_files(None), &mut unpack)?,
            How::Not => {
                tar_split::headers(tar_split, &mut unpack)?;
                return Ok(self.entries(unpack, None).added_to(Contents::NotRead));
            }
        };
        let entries = self.entries(unpack, proven.is_layer);
        if proven.is_wrong() {
            let contents = self.whose_fault(&proven, device, tree)?;
            return Ok(entries.added_to(contents));
        }
        self.or_compared(entries.added_to(proven.grade()), device, tree)
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

    /// Whether what is wrong was so before the conversion: aufs has the same then, every entry and every byte.
    fn whose_fault(
        &self,
        proven: &Proven,
        device: ThinDevice<'_>,
        tree: DeviceTree<'_>,
    ) -> Result<Contents, Halt> {
        let files = proven.faults();
        let as_in_aufs = match self.compared {
            Some(compared) if compared.faults.is_empty() => {
                self.differing_bytes(compared, device, tree)?.1.is_empty()
            }
            _ => false,
        };
        Ok(if as_in_aufs {
            Contents::SourceDamaged { files }
        } else {
            Contents::mismatch(files)
        })
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
        if compared.files.is_empty() {
            return Ok(Contents::Nothing);
        }
        let (bytes, faults) = self.differing_bytes(compared, device, tree)?;
        Ok(if faults.is_empty() {
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
        let (root, names) = match (self.branch, self.device) {
            (Some(layer), _) => {
                let meta = &layer.tree.node(LayerTree::ROOT).meta;
                (Some((meta.uid, meta.gid)), nr_names(&layer.tree))
            }
            (None, Some((_, tree))) => {
                let root = tree.view.inode(tree.rootfs).map(Inode::meta);
                let changed = |below| tree.view.changed_names(below).count();
                (
                    root.map(|meta| (meta.uid, meta.gid)),
                    self.below.map_or(0, changed),
                )
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
