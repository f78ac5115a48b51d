//! Checksums of what a conversion wrote, which prove files without reading them back.
//!
//! The writer computed them from the bytes that it passed to the kernel. Which of them make up a file does not depend
//! on the writer: it follows from the file's blocks, as read back from the device and its mapping.

use super::pool::ThinDevice;
use crate::crc64;
use crate::engine::WrittenRun;

/// The written runs, sorted by position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteChecksums<'a>(&'a [WrittenRun]);

impl<'a> WriteChecksums<'a> {
    pub(crate) fn new(runs: &'a [WrittenRun]) -> Self {
        Self(runs)
    }

    /// The checksum of a device's bytes; `None` if it was not recorded, or not in pieces that make up these bytes.
    pub(super) fn checksum(&self, device: &ThinDevice<'_>, offset: u64, bytes: u64) -> Option<u64> {
        let (mut crc, mut at) = (crc64::EMPTY, offset);
        for place in device.places(offset..offset + bytes) {
            // Unmapped bytes read as zeros. File data is never unmapped unless it is damaged.
            if place.offset != at {
                return None;
            }
            let part = self.of_data(place.data_offset, place.bytes)?;
            crc = crc64::combine(crc, part, place.bytes);
            at += place.bytes;
        }
        (at == offset + bytes).then_some(crc)
    }

    /// The checksum of bytes in the pool's data.
    fn of_data(&self, offset: u64, bytes: u64) -> Option<u64> {
        let first = self
            .0
            .binary_search_by_key(&offset, |run| run.offset)
            .ok()?;
        let (mut crc, mut done) = (crc64::EMPTY, 0);
        for run in &self.0[first..] {
            if done == bytes {
                break;
            }
            if run.offset != offset + done || run.bytes > bytes - done {
                return None;
            }
            crc = crc64::combine(crc, run.crc64, run.bytes);
            done += run.bytes;
        }
        (done == bytes).then_some(crc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crc64::crc64;
    use crate::thin::Mapping;
    use crate::units::Bytes;

    fn run(offset: u64, bytes: &[u8]) -> WrittenRun {
        WrittenRun {
            offset,
            bytes: bytes.len() as u64,
            crc64: crc64(bytes),
        }
    }

    #[test]
    fn pieces_are_put_together_as_the_mapping_says() {
        // Thin blocks of 4 bytes: 10 and 11 are apart, 11 and 12 are adjacent. Nothing of them is read.
        let mapping = Mapping::new().with(&[(10, 7), (11, 2), (12, 3)], 0);
        let empty = tempfile::tempfile().unwrap();
        let device = ThinDevice::new(&empty, Bytes(4), &mapping, Bytes(400));
        let runs = [run(8, b"efghij"), run(28, b"abcd")];
        let written = WriteChecksums::new(&runs);
        assert_eq!(
            written.checksum(&device, 40, 10),
            Some(crc64(b"abcdefghij"))
        );
        assert_eq!(written.checksum(&device, 44, 6), Some(crc64(b"efghij")));
        assert_eq!(written.checksum(&device, 40, 4), Some(crc64(b"abcd")));
        // In the middle of a piece, not recorded, not mapped.
        assert_eq!(written.checksum(&device, 44, 5), None);
        assert_eq!(written.checksum(&device, 42, 2), None);
        assert_eq!(written.checksum(&device, 40, 12), None);
        assert_eq!(written.checksum(&device, 48, 8), None);
        assert_eq!(written.checksum(&device, 36, 8), None);
    }
}
