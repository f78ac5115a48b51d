//! Compares the bytes of a layer's files between aufs and the device, and computes the checksums of both.

use std::collections::BTreeMap;

use super::compare::EntryComparison;
use super::layer_report::Faults;
use crate::content::pool::ThinDevice;
use crate::content::{BranchFiles, DeviceFiles, DeviceTree, Halt, ReadJob};
use crate::crc64::{self, crc64};
use crate::ext4::Ino;
use crate::source::Layer;
use crate::tree::{NodeId, Regular, Segment};

/// The result of a comparison of bytes.
#[derive(Debug, Default)]
pub(super) struct Bytes {
    /// How many bytes there are.
    pub(super) total: u64,
    /// The files that differ, each with the position of the first different byte.
    differing: Vec<(NodeId, u64)>,
    /// The checksums of each file that was read.
    sums: BTreeMap<Ino, Sums>,
}

/// The checksums of a file.
#[derive(Clone, Copy, Debug)]
struct Sums {
    in_aufs: u64,
    on_device: u64,
    /// The number of bytes that they cover.
    bytes: u64,
}

impl Bytes {
    /// Compares all files of a branch that have the same size on the device. If only the branch was changed, files with
    /// another modification time are left out. If the device's container was used after `noted`, in seconds since 1970,
    /// files that the kernel has changed since are left out.
    pub(super) fn compare(
        work: &ReadJob<'_>,
        (layer, compared): (&Layer, &EntryComparison),
        (device, tree): (ThinDevice<'_>, DeviceTree<'_>),
        noted: Option<i64>,
    ) -> Result<Self, Halt> {
        let is_changed = |ino| {
            let inode = tree.view.inode(ino);
            let changed = inode.map(|inode| inode.meta().ctime.sec());
            noted.is_some_and(|noted| changed.is_none_or(|changed| changed > noted))
        };
        let mut branch = BranchFiles::new(work, layer)?;
        let mut files = DeviceFiles::new(work, device, tree);
        let mut all = Self::default();
        for &(node, ino) in &compared.files {
            if is_changed(ino) || compared.is_of_aufs && !is_same_file(layer, node, ino, tree) {
                continue;
            }
            let size = layer.tree.regular(node).map_or(0, |file| file.size);
            files.open(ino, size);
            let (sums, differs) = both(layer, node, &mut branch, &files)?;
            all.sums.insert(ino, sums.with_zeros_to(size));
            all.differing.extend(differs.map(|at| (node, at)));
            all.total += size;
        }
        Ok(all)
    }

    /// Whether no file differs.
    pub(super) fn are_same(&self) -> bool {
        self.differing.is_empty()
    }

    /// The device's checksum of a file that was read.
    pub(super) fn on_device(&self, ino: Ino) -> Option<u64> {
        self.sums.get(&ino).map(|sums| sums.on_device)
    }

    /// The checksum of the same file in aufs.
    pub(super) fn in_aufs(&self, ino: Ino) -> Option<u64> {
        self.sums.get(&ino).map(|sums| sums.in_aufs)
    }

    /// The files that differ, with `what` as the text for each.
    pub(super) fn faults(&self, layer: &Layer, what: &str) -> Faults {
        let differing = self.differing.iter();
        differing
            .map(|&(node, at)| {
                let path = layer.tree.display_path(node);
                format!("{path}: {what} from byte {at} on")
            })
            .collect()
    }
}

impl Sums {
    const NONE: Self = Self {
        in_aufs: crc64::EMPTY,
        on_device: crc64::EMPTY,
        bytes: 0,
    };

    /// Everything before `end` that was not read is a hole on both sides.
    fn with_zeros_to(self, end: u64) -> Self {
        let zeros = end.saturating_sub(self.bytes);
        if zeros == 0 {
            return self;
        }
        let sum = crc64::zeros(zeros);
        self.with((sum, sum), zeros)
    }

    fn with(self, (in_aufs, on_device): (u64, u64), bytes: u64) -> Self {
        Self {
            in_aufs: crc64::combine(self.in_aufs, in_aufs, bytes),
            on_device: crc64::combine(self.on_device, on_device, bytes),
            bytes: self.bytes + bytes,
        }
    }
}

/// Compares one file, which is open in `files`: returns its checksums, and the position of the first different byte.
fn both(
    layer: &Layer,
    node: NodeId,
    branch: &mut BranchFiles<'_>,
    files: &DeviceFiles<'_>,
) -> Result<(Sums, Option<u64>), Halt> {
    let (mut sums, mut differs) = (Sums::NONE, None);
    let mut other = Vec::new();
    let parts = either_has_data(layer.tree.regular(node), files.data());
    branch.read_parts(node, &parts, &mut |offset, bytes| {
        other.resize(bytes.len(), 0);
        files
            .read_at(&mut other, offset)
            .map_err(|source| Halt::Device {
                path: layer.tree.display_path(node),
                source,
            })?;
        let in_aufs = crc64(bytes);
        let at = bytes.iter().zip(&other).position(|(a, b)| a != b);
        let on_device = at.map_or(in_aufs, |_| crc64(&other));
        sums = sums
            .with_zeros_to(offset)
            .with((in_aufs, on_device), bytes.len() as u64);
        differs = differs.or(at.map(|at| offset + at as u64));
        Ok(())
    })?;
    Ok((sums, differs))
}

/// Whether a file has the same modification time on both sides. A file that aufs wrote since the conversion has not,
/// and proves nothing about the device.
fn is_same_file(layer: &Layer, node: NodeId, ino: Ino, tree: DeviceTree<'_>) -> bool {
    let inode = tree.view.inode(ino);
    inode.is_some_and(|inode| layer.tree.node(node).meta.mtime == inode.meta().mtime)
}

/// The parts of a file in which aufs or the device has data: holes on both sides are zeros on both, however large they
/// are.
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
