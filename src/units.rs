//! Sizes and positions, with one type per unit, so that a sector count cannot be mistaken for a block count.
//!
//! Conversions are named methods; arithmetic that can overflow is `checked_*` at the place of use.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes in a 512-byte sector, the unit of device-mapper tables.
pub const SECTOR_BYTES: u64 = 512;

/// Bytes in a block of the ext4 file systems this crate writes, and in a block of thin-pool metadata.
pub const BLOCK_BYTES: u64 = 4096;

/// A number of bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// `n` times 2^30 bytes.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// `n` times 2^20 bytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// The number of whole 512-byte sectors in this many bytes, rounded down.
    pub const fn sectors(self) -> Sectors {
        Sectors(self.0 / SECTOR_BYTES)
    }
}

/// Prints with a binary unit and one decimal (`1.2 GiB`); below one KiB, in whole bytes.
impl fmt::Display for Bytes {
    #[allow(clippy::cast_precision_loss)] // one decimal is shown
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while value >= 1023.95 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        write!(f, "{value:.1} {}", UNITS[unit])
    }
}

/// A number of 512-byte sectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sectors(pub u64);

/// A number of a pool's data blocks (64 KiB unless the pool says otherwise).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataBlocks(pub u64);

/// A number of a pool's metadata blocks, 4 KiB each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetaBlocks(pub u64);

impl MetaBlocks {
    /// The number of bytes in these blocks.
    pub const fn bytes(self) -> Bytes {
        Bytes(self.0 * BLOCK_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_print_with_a_binary_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (1_288_490_189, "1.2 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn bytes_become_whole_sectors() {
        assert_eq!(Bytes(1535).sectors(), Sectors(2));
        assert_eq!(Bytes::gib(10).sectors(), Sectors(20_971_520));
    }
}
