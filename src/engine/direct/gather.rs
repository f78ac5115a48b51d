//! Fills one unit of the data file: encodes metadata from the plan and reads file data from the branch.

use std::ops::Range;

use super::error::Error;
use super::reflink::{self, Share};
use super::unit::{BLOCK, CLUSTER, Unit};
use crate::engine::WrittenRun;
use crate::ext4::write::{CLUSTER_BLOCKS, DataRun};
use crate::plan::{DeviceIndex, LaidDevice, Layout};
use crate::source::branch_reader::{BranchReader, SourceFile};
use crate::units::BLOCK_BYTES;

/// Fills units one after the other.
pub(super) struct Gatherer<'a, 'g> {
    pub(super) layout: &'a Layout,
    /// Whether the blocks of large files are shared with the branch.
    pub(super) share: bool,
    /// Whether the checksums of file data are computed.
    pub(super) checksums: bool,
    /// Called before every file; an error stops the run.
    pub(super) go_on: &'g dyn Fn() -> Result<(), Error>,
    /// The branch of the previous unit, kept for the next one of the same device.
    pub(super) branch: Option<(DeviceIndex, BranchReader<'a>)>,
}

/// What a unit's buffer contains, and what was left out.
#[derive(Default)]
pub(super) struct UnitContents<'a> {
    /// The parts that were left out, ascending.
    pub(super) shares: Vec<Share<'a>>,
    /// The file data in it, with offsets in the buffer.
    pub(super) runs: Vec<WrittenRun>,
}

/// Data clusters that are adjacent both in the file system and in the buffer.
struct Stretch<'a> {
    /// All data runs of the device.
    runs: &'a [DataRun],
    /// The first block.
    first: u32,
    /// Their range in the buffer.
    part: Range<usize>,
}

impl<'a> Gatherer<'a, '_> {
    /// Fills a buffer of the unit's size.
    pub(super) fn fill(
        &mut self,
        unit: &Unit,
        buffer: &mut [u8],
    ) -> Result<UnitContents<'a>, Error> {
        let layout = self.layout;
        let device = &layout.devices[unit.device.0];
        let clusters = &device.clusters[unit.clusters.clone()];
        let mut gathered = UnitContents::default();
        let mut at = 0;
        while at < clusters.len() {
            let nr = stretch(device, &clusters[at..]);
            let part = at * CLUSTER..(at + nr) * CLUSTER;
            if is_metadata(device, clusters[at]) {
                device.image.encode_cluster(clusters[at], &mut buffer[part]);
            } else {
                self.enter(unit.device)?;
                let stretch = Stretch {
                    runs: &device.delta.data,
                    first: clusters[at] * CLUSTER_BLOCKS,
                    part,
                };
                self.gather(&stretch, buffer, &mut gathered)?;
            }
            at += nr;
        }
        Ok(gathered)
    }

    /// Opens the device's branch, unless the previous unit already did.
    fn enter(&mut self, device: DeviceIndex) -> Result<(), Error> {
        if self.branch.as_ref().is_none_or(|(at, _)| *at != device) {
            let layer = self.layout.plan.devices[device.0].layer.as_ref();
            let layer = layer.expect("the base device has no file data");
            self.branch = Some((device, BranchReader::new(layer)?));
        }
        Ok(())
    }

    /// Fills a part of the buffer with file data, and with zeros where no file has any. Leaves out what is to be
    /// shared.
    fn gather(
        &mut self,
        stretch: &Stretch<'_>,
        buffer: &mut [u8],
        gathered: &mut UnitContents<'a>,
    ) -> Result<(), Error> {
        let Stretch { runs, first, part } = stretch;
        let mut filled = part.start;
        let from = runs.partition_point(|run| run.physical + run.blocks <= *first);
        for run in &runs[from..] {
            let skip = first.saturating_sub(run.physical);
            let start = part.start + (run.physical + skip - first) as usize * BLOCK;
            if start >= part.end {
                break;
            }
            let end = part.end.min(start + (run.blocks - skip) as usize * BLOCK);
            buffer[filled..start].fill(0);
            filled = end;
            let offset = u64::from(run.logical + skip) * BLOCK_BYTES;
            (self.go_on)()?;
            let (_, reader) = self.branch.as_mut().expect("it was entered");
            let file = reader.open(run.node)?;
            self.read((file, offset), buffer, start..end, gathered)?;
        }
        buffer[filled..part.end].fill(0);
        Ok(())
    }

    /// Reads a file's bytes from an offset on, except for those that are worth sharing.
    fn read(
        &self,
        (file, offset): (SourceFile<'a>, u64),
        buffer: &mut [u8],
        part: Range<usize>,
        gathered: &mut UnitContents<'a>,
    ) -> Result<(), Error> {
        let worth = if self.share {
            reflink::worth(file.size(), offset, part.len() as u64)
        } else {
            None
        };
        let shared = usize::try_from(worth.unwrap_or(0)).expect("a share lies within the buffer");
        let (start, offset) = (part.start + shared, offset + shared as u64);
        file.read_at(&mut buffer[start..part.end], offset)?;
        file.check()?;
        let left = usize::try_from(file.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        let end = part.end.min(start.saturating_add(left));
        if self.checksums && start < end {
            let run = WrittenRun::new(start as u64, &buffer[start..end]);
            gathered.runs.push(run);
        }
        if shared > 0 {
            gathered.shares.push(Share {
                part: part.start..start,
                file,
                from: offset - shared as u64,
            });
        }
        Ok(())
    }
}

fn is_metadata(device: &LaidDevice, cluster: u32) -> bool {
    device.delta.metadata.binary_search(&cluster).is_ok()
}

/// The number of clusters that are filled at once: one of metadata, or as many of data as are adjacent.
fn stretch(device: &LaidDevice, clusters: &[u32]) -> usize {
    if is_metadata(device, clusters[0]) {
        return 1;
    }
    let follows = |pair: &[u32]| pair[1] == pair[0] + 1 && !is_metadata(device, pair[1]);
    1 + clusters.windows(2).take_while(|pair| follows(pair)).count()
}
