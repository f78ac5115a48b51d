//! Checksums of metadata: crc16 over group descriptors, or crc32c over everything.
//!
//! Source: e2fsprogs v1.47.0 `lib/ext2fs/csum.c`.

use zerocopy::IntoBytes;

use super::format::{DESC_BYTES, GroupDesc};
use super::ino::Ino;
use super::params::Checksums;

/// The checksums one file system carries, with what every one of them starts from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summer {
    kind: Checksums,
    uuid: [u8; 16],
    seed: u32,
}

/// `i_generation` of every inode written here.
const GENERATION: u32 = 0;

impl Summer {
    pub(super) fn new(kind: Checksums, uuid: [u8; 16]) -> Self {
        Self {
            kind,
            uuid,
            seed: crc32c(!0, &uuid),
        }
    }

    /// Whether all metadata carries a checksum, not only the group descriptors.
    pub(super) fn is_full(&self) -> bool {
        self.kind == Checksums::Metadata
    }

    /// Of a group's descriptor whose own field is zero.
    pub(super) fn descriptor(&self, group: u32, descriptor: &GroupDesc) -> u16 {
        let bytes = descriptor.as_bytes();
        let number = group.to_le_bytes();
        match self.kind {
            Checksums::GroupDescriptors => {
                let sum = crc16(crc16(!0, &self.uuid), &number);
                crc16(sum, &bytes[..DESC_BYTES - 2])
            }
            Checksums::Metadata => low(crc32c(crc32c(self.seed, &number), bytes)),
        }
    }

    /// Of a bitmap; only asked for with checksums on everything.
    pub(super) fn bitmap(&self, bits: &[u8]) -> u16 {
        low(crc32c(self.seed, bits))
    }

    /// Of an attribute block whose own field is zero.
    pub(super) fn xattr_block(&self, block: u32, bytes: &[u8]) -> u32 {
        crc32c(crc32c(self.seed, &u64::from(block).to_le_bytes()), bytes)
    }

    /// For what belongs to an inode.
    pub(super) fn of_inode(self, ino: Ino) -> InodeSummer {
        InodeSummer { summer: self, ino }
    }
}

/// The checksums of what belongs to one inode: itself, its directory blocks, its extent blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct InodeSummer {
    summer: Summer,
    pub(super) ino: Ino,
}

impl InodeSummer {
    /// Whether there are any.
    pub(super) fn is_full(&self) -> bool {
        self.summer.is_full()
    }

    /// Of these bytes one behind the other.
    pub(super) fn sum(&self, parts: &[&[u8]]) -> u32 {
        let start = crc32c(self.summer.seed, &self.ino.0.to_le_bytes());
        let start = crc32c(start, &GENERATION.to_le_bytes());
        parts.iter().fold(start, |sum, part| crc32c(sum, part))
    }
}

/// Of the superblock up to its own field.
pub(super) fn superblock(bytes: &[u8]) -> u32 {
    crc32c(!0, bytes)
}

/// The lower half.
pub(super) fn low(sum: u32) -> u16 {
    (sum & 0xffff) as u16
}

/// The upper half.
pub(super) fn high(sum: u32) -> u16 {
    (sum >> 16) as u16
}

/// crc32c without the inversions that the crate does before and after.
pub(super) fn crc32c(sum: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!sum, bytes)
}

/// crc16 with polynomial 0x8005, reflected.
pub(super) fn crc16(sum: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(sum, |sum, &byte| {
        (0..8).fold(sum ^ u16::from(byte), |sum, _| {
            if sum & 1 == 1 {
                (sum >> 1) ^ 0xa001
            } else {
                sum >> 1
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc16_has_its_check_value() {
        // CRC-16/MODBUS is this polynomial with this start value; its published check value is 0x4b37.
        assert_eq!(crc16(!0, b"123456789"), 0x4b37);
    }

    #[test]
    fn crc32c_is_the_published_one_without_the_last_inversion() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
    }
}
