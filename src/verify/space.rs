//! Compares the allocation of files. Space is not content: a file may have blocks where aufs has a hole, or a hole
//! where aufs has zeros. A copy of a root or a restored backup causes that. Space on one side only must hold zeros.

use super::compare::EntryComparison;
use super::report::Mode;
use crate::content::pool::ThinDevice;
use crate::content::{BranchFiles, DeviceFiles, DeviceTree, Halt, PIECE, ReadJob, stretches};
use crate::ext4::Ino;
use crate::ext4::read::View;
use crate::source::Layer;
use crate::tree::{NodeId, Regular, Segment};

/// Shorter holes in aufs are ignored: a writer may fill them.
const HOLE: u64 = 64 * 1024;

/// Where one side of a file has a hole and the other has not, in ascending order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Space {
    /// Allocated on the device, a hole in aufs.
    on_device: Vec<Segment>,
    /// Allocated in aufs, a hole on the device.
    in_aufs: Vec<Segment>,
}

/// Finds space that the compared files occupy on one side only. Anything but zeros there is a fault, everything else a
/// remark. A quick verification checks the first piece of each such stretch.
pub(super) fn compare_space(
    work: &ReadJob<'_>,
    (device, tree): (ThinDevice<'_>, DeviceTree<'_>),
    layer: &Layer,
    mode: Mode,
    compared: &mut EntryComparison,
) -> Result<(), Halt> {
    let mut sides = None;
    for at in 0..compared.files.len() {
        let (node, ino) = compared.files[at];
        let Some(file) = layer.tree.regular(node) else {
            continue;
        };
        let space = Space::of(file, tree.view, ino);
        if space == Space::default() {
            continue;
        }
        let sides = match &mut sides {
            Some(sides) => sides,
            none => none.insert(Sides {
                branch: BranchFiles::new(work, layer)?,
                files: DeviceFiles::new(work, device, tree),
                work,
                layer,
            }),
        };
        let looked_at = space.looked_at(mode);
        let path = layer.tree.display_path(node);
        match sides.first_byte((node, ino), file.size, &looked_at)? {
            Some(what) => compared.faults.push(format_args!("{path}: {what}")),
            None => compared
                .space
                .push(format_args!("{path}: {}", space.told())),
        }
    }
    Ok(())
}

impl Space {
    fn of(file: &Regular, view: &View, ino: Ino) -> Self {
        let block = u64::from(view.block_bytes());
        // Blocks that are allocated in a hole, written or not.
        let runs = view.extents(ino).map(|run| Segment {
            start: u64::from(run.logical).saturating_mul(block),
            end: (u64::from(run.logical) + u64::from(run.blocks)).saturating_mul(block),
        });
        let holes: Vec<Segment> = holes(file)
            .into_iter()
            .filter(|hole| hole.end - hole.start >= HOLE)
            .map(|hole| Segment {
                start: hole.start.next_multiple_of(block),
                end: hole.end - hole.end % block,
            })
            .collect();
        let gaps = stretches(view, ino, file.size)
            .into_iter()
            .filter(|stretch| stretch.place.is_none())
            .map(|stretch| Segment {
                start: stretch.offset,
                end: stretch.offset + stretch.bytes,
            });
        let whole = [Segment {
            start: 0,
            end: file.size,
        }];
        let data = file.segments.as_ref().map_or(&whole[..], |all| &all[..]);
        Self {
            on_device: common(runs, &holes),
            in_aufs: common(gaps, data),
        }
    }

    fn looked_at(&self, mode: Mode) -> Self {
        let first_piece = |part: &Segment| Segment {
            start: part.start,
            end: part.end.min(part.start + PIECE as u64),
        };
        let cut = |parts: &[Segment]| match mode {
            Mode::Full => parts.to_vec(),
            Mode::Quick => parts.iter().map(first_piece).collect(),
        };
        Self {
            on_device: cut(&self.on_device),
            in_aufs: cut(&self.in_aufs),
        }
    }

    fn told(&self) -> String {
        match (self.on_device.first(), self.in_aufs.first()) {
            (Some(part), _) => {
                format!("the hole at byte {} is allocated on the device", part.start)
            }
            (None, Some(part)) => {
                format!("the zeros at byte {} are a hole on the device", part.start)
            }
            (None, None) => String::new(),
        }
    }
}

/// The two sides of a layer's files.
struct Sides<'a> {
    branch: BranchFiles<'a>,
    files: DeviceFiles<'a>,
    work: &'a ReadJob<'a>,
    layer: &'a Layer,
}

impl Sides<'_> {
    /// The first byte in some stretches that is not zero, as a fault.
    fn first_byte(
        &mut self,
        (node, ino): (NodeId, Ino),
        size: u64,
        space: &Space,
    ) -> Result<Option<String>, Halt> {
        if let Some(at) = self.on_device((node, ino), size, &space.on_device)? {
            return Ok(Some(format!(
                "has data at byte {at}, where aufs has a hole"
            )));
        }
        let mut found = None;
        if !space.in_aufs.is_empty() {
            self.branch
                .read_parts(node, &space.in_aufs, &mut |offset, bytes| {
                    found = found.or(first_of(offset, bytes));
                    Ok(())
                })?;
        }
        Ok(found.map(|at| format!("has a hole at byte {at}, where aufs has data")))
    }

    fn on_device(
        &mut self,
        (node, ino): (NodeId, Ino),
        size: u64,
        parts: &[Segment],
    ) -> Result<Option<u64>, Halt> {
        if parts.is_empty() {
            return Ok(None);
        }
        self.files.open(ino, size);
        let mut buffer = Vec::new();
        for part in parts {
            let mut at = part.start;
            while at < part.end {
                self.work.go_on()?;
                let bytes = (part.end - at).min(PIECE as u64);
                buffer.resize(usize::try_from(bytes).expect("at most a piece"), 0);
                self.files
                    .read_at(&mut buffer, at)
                    .map_err(|source| Halt::Device {
                        path: self.layer.tree.display_path(node),
                        source,
                    })?;
                if let Some(found) = first_of(at, &buffer) {
                    return Ok(Some(found));
                }
                at += bytes;
            }
        }
        Ok(None)
    }
}

/// The position of the first byte that is not zero, if the bytes begin at `offset`.
fn first_of(offset: u64, bytes: &[u8]) -> Option<u64> {
    let at = bytes.iter().position(|&byte| byte != 0)?;
    Some(offset + at as u64)
}

/// A file's holes in aufs, in ascending order.
fn holes(file: &Regular) -> Vec<Segment> {
    let Some(segments) = &file.segments else {
        return Vec::new();
    };
    let mut holes = Vec::with_capacity(segments.len() + 1);
    let mut start = 0;
    let end = Segment {
        start: file.size,
        end: file.size,
    };
    for segment in segments.iter().chain([&end]) {
        if segment.start > start {
            holes.push(Segment {
                start,
                end: segment.start,
            });
        }
        start = start.max(segment.end);
    }
    holes
}

/// The intersection of some stretches with others that are ascending and disjoint.
fn common(some: impl Iterator<Item = Segment>, others: &[Segment]) -> Vec<Segment> {
    let mut all = Vec::new();
    for part in some {
        let first = others.partition_point(|other| other.end <= part.start);
        let overlapping = others[first..]
            .iter()
            .take_while(|other| other.start < part.end);
        all.extend(overlapping.filter_map(|other| {
            let (start, end) = (part.start.max(other.start), part.end.min(other.end));
            (start < end).then_some(Segment { start, end })
        }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment((start, end): (u64, u64)) -> Segment {
        Segment { start, end }
    }

    fn segments(parts: &[(u64, u64)]) -> Vec<Segment> {
        parts.iter().copied().map(segment).collect()
    }

    #[test]
    fn what_two_lists_have_in_common_is_found_in_every_position() {
        let others = segments(&[(10, 20), (30, 40), (40, 50)]);
        for (some, expected) in [
            (vec![(0, 10)], vec![]),
            (vec![(0, 11)], vec![(10, 11)]),
            (vec![(15, 35)], vec![(15, 20), (30, 35)]),
            (vec![(20, 30), (49, 99)], vec![(49, 50)]),
            (vec![(0, 99)], vec![(10, 20), (30, 40), (40, 50)]),
        ] {
            let found = common(segments(&some).into_iter(), &others);
            assert_eq!(found, segments(&expected), "{some:?}");
        }
    }

    #[test]
    fn holes_are_what_lies_between_the_data() {
        let of = |parts: Option<&[(u64, u64)]>| {
            holes(&Regular {
                size: 100,
                segments: parts.map(|all| Box::new(segments(all))),
            })
        };
        assert_eq!(of(None), []);
        assert_eq!(of(Some(&[])), segments(&[(0, 100)]));
        assert_eq!(
            of(Some(&[(0, 10), (20, 30)])),
            segments(&[(10, 20), (30, 100)])
        );
        assert_eq!(of(Some(&[(5, 100)])), segments(&[(0, 5)]));
    }
}
