//! Checksums as a reader needs them: over bytes from disk, by whatever the superblock says they start from.
//!
//! Source: linux v6.6 `Documentation/filesystems/ext4/checksums.rst`.

use super::features::Features;
use crate::ext4::checksum::{crc16, crc32c, low};
use crate::ext4::format::SuperBlock;
use crate::ext4::ino::Ino;

/// Byte of a group descriptor at which its checksum stands.
const DESC_SUM: usize = 0x1e;

/// What a file system's checksums start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sums {
    uuid: [u8; 16],
    seed: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    None,
    Descriptors,
    All,
}

impl Sums {
    pub(super) fn new(raw: &SuperBlock, features: Features) -> Self {
        let seed = if features.csum_seed() {
            raw.s_checksum_seed.get()
        } else {
            crc32c(!0, &raw.s_uuid)
        };
        let kind = if features.metadata_csum() {
            Kind::All
        } else if features.gdt_csum() {
            Kind::Descriptors
        } else {
            Kind::None
        };
        Self {
            uuid: raw.s_uuid,
            seed,
            kind,
        }
    }

    /// Whether group descriptors carry a checksum, and with it flags and counts that can be relied on.
    pub(super) fn of_descriptors(&self) -> bool {
        self.kind != Kind::None
    }

    /// Whether all metadata carries one.
    pub(super) fn of_all(&self) -> bool {
        self.kind == Kind::All
    }

    /// Of a group's descriptor.
    pub(super) fn descriptor(&self, group: u32, bytes: &[u8]) -> u16 {
        let number = group.to_le_bytes();
        let (before, rest) = bytes.split_at(DESC_SUM);
        let behind = &rest[2..];
        match self.kind {
            Kind::None => 0,
            Kind::Descriptors => {
                let sum = crc16(crc16(!0, &self.uuid), &number);
                crc16(crc16(sum, before), behind)
            }
            Kind::All => {
                let sum = crc32c(crc32c(self.seed, &number), before);
                low(crc32c(crc32c(sum, &[0; 2]), behind))
            }
        }
    }

    /// Of a bitmap.
    pub(super) fn bitmap(&self, bits: &[u8]) -> u32 {
        crc32c(self.seed, bits)
    }

    /// Of what lies in a block of this number and is summed with it: attributes.
    pub(super) fn numbered(&self, block: u64, parts: &[&[u8]]) -> u32 {
        fold(crc32c(self.seed, &block.to_le_bytes()), parts)
    }

    /// For what belongs to an inode.
    pub(super) fn of_inode(&self, ino: Ino, generation: u32) -> InodeSums {
        let sum = crc32c(self.seed, &ino.0.to_le_bytes());
        InodeSums(crc32c(sum, &generation.to_le_bytes()))
    }
}

/// The start of the checksums of what belongs to one inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InodeSums(u32);

impl InodeSums {
    /// Of these bytes one behind the other.
    pub(super) fn sum(self, parts: &[&[u8]]) -> u32 {
        fold(self.0, parts)
    }
}

fn fold(start: u32, parts: &[&[u8]]) -> u32 {
    parts.iter().fold(start, |sum, part| crc32c(sum, part))
}
