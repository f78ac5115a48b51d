//! A thin device as bytes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::ext4::read::ReadAt;
use crate::thin::Mapping;
use crate::units::Bytes;

/// Where bytes of a thin device are in the pool's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The first, on the thin device.
    pub offset: u64,
    /// The first, in the data file or device.
    pub data_offset: u64,
    /// How many; not zero.
    pub bytes: u64,
}

/// A thin device. What it does not map reads as zeros.
#[derive(Clone, Copy, Debug)]
pub struct ThinDevice<'p> {
    data: &'p File,
    /// Bytes of a data block: at most 1 GiB.
    block: u64,
    mapping: &'p Mapping,
    size: u64,
}

impl<'p> ThinDevice<'p> {
    /// On data that has all blocks that a mapping may lead to, so that no place in it is above 2^64.
    pub(in crate::content) fn new(
        data: &'p File,
        block: Bytes,
        mapping: &'p Mapping,
        size: Bytes,
    ) -> Self {
        Self {
            data,
            block: block.0,
            mapping,
            size: size.0,
        }
    }

    /// Its size.
    pub fn size(&self) -> Bytes {
        Bytes(self.size)
    }

    /// The thin blocks it maps, and where to.
    pub fn mapping(&self) -> &'p Mapping {
        self.mapping
    }

    /// Where those of the bytes in a range lie that are mapped, ascending, in pieces as long as can be.
    pub fn places(&self, range: Range<u64>) -> impl Iterator<Item = Place> + use<'p> {
        let block = self.block;
        let blocks = range.start / block..range.end.div_ceil(block);
        self.mapping.runs(blocks).filter_map(move |run| {
            // A device may map blocks behind an end that Docker has since put elsewhere.
            let offset = run.thin_block.saturating_mul(block).max(range.start);
            let end = run.end().saturating_mul(block).min(range.end);
            (offset < end).then(|| Place {
                offset,
                data_offset: run.data_block * block + (offset - run.thin_block * block),
                bytes: end - offset,
            })
        })
    }

    /// The ranges of bytes, ascending, that may read otherwise from `other`, a device of the same pool. Costs what differs.
    pub fn changed(&self, other: &Self) -> Vec<Range<u64>> {
        let size = self.size.max(other.size);
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for blocks in self.mapping.changed(other.mapping) {
            let start = blocks.start.saturating_mul(self.block);
            let end = blocks.end.saturating_mul(self.block).min(size);
            ranges.extend((start < end).then_some(start..end));
        }
        ranges
    }
}

impl ReadAt for ThinDevice<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        let end = end.filter(|end| *end <= self.size);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut rest = buf;
        let mut at = offset;
        for place in self.places(offset..end) {
            let (zeros, behind) = rest.split_at_mut(index(place.offset - at));
            zeros.fill(0);
            let (bytes, behind) = behind.split_at_mut(index(place.bytes));
            self.data.read_exact_at(bytes, place.data_offset)?;
            rest = behind;
            at = place.offset + place.bytes;
        }
        rest.fill(0);
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        let next = self.places(offset..self.size.max(offset)).next();
        Ok(next.map(|place| place.offset))
    }
}

/// A position in a buffer.
fn index(n: u64) -> usize {
    usize::try_from(n).expect("no more than the buffer has")
}
