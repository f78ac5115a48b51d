//! A thin device as readable bytes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::ext4::read::ReadAt;
use crate::thin::Mapping;
use crate::units::Bytes;

/// The location of a thin device's bytes in the pool's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The offset of the first byte on the thin device.
    pub offset: u64,
    /// The offset of the first byte in the data file or device.
    pub data_offset: u64,
    /// The number of bytes; not zero.
    pub bytes: u64,
}

/// A thin device. Unmapped bytes read as zeros.
#[derive(Clone, Copy, Debug)]
pub struct ThinDevice<'p> {
    data: &'p File,
    /// Size of a data block in bytes: at most 1 GiB.
    block: u64,
    mapping: &'p Mapping,
    size: u64,
}

impl<'p> ThinDevice<'p> {
    /// A device on `data` that has all blocks to which a mapping may lead, so that no position in it is above 2^64.
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

    /// The thin blocks that it maps, with their data blocks.
    pub fn mapping(&self) -> &'p Mapping {
        self.mapping
    }

    /// The locations of the mapped bytes in a range, in ascending order, in pieces as long as possible.
    pub fn places(&self, range: Range<u64>) -> impl Iterator<Item = Place> + use<'p> {
        let block = self.block;
        let blocks = range.start / block..range.end.div_ceil(block);
        self.mapping.runs(blocks).filter_map(move |run| {
            // A device may map blocks after its end if Docker has since moved the end.
            let offset = run.thin_block.saturating_mul(block).max(range.start);
            let end = run.end().saturating_mul(block).min(range.end);
            (offset < end).then(|| Place {
                offset,
                data_offset: run.data_block * block + (offset - run.thin_block * block),
                bytes: end - offset,
            })
        })
    }

    /// The byte ranges, in ascending order, that may differ from those of `other`, a device of the same pool. The cost
    /// depends on how much differs.
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

/// An index into a buffer.
fn index(n: u64) -> usize {
    usize::try_from(n).expect("no more than the buffer has")
}
