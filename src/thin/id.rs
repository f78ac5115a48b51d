//! Numbers of thin devices.

use std::fmt;

/// A number that no thin device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("thin device id {id}: above the maximum, 16777215")]
pub struct ThinIdError {
    /// The number.
    pub id: u32,
}

/// A thin device's number in its pool: 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThinId(u32);

impl ThinId {
    /// The largest.
    pub const MAX: Self = Self((1 << 24) - 1);

    /// The device with this number.
    ///
    /// # Errors
    ///
    /// Above [`ThinId::MAX`].
    pub const fn new(id: u32) -> Result<Self, ThinIdError> {
        if id > Self::MAX.0 {
            return Err(ThinIdError { id });
        }
        Ok(Self(id))
    }

    /// The number.
    pub const fn value(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ThinId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thin::pool::MAX_METADATA_BLOCKS;
    use crate::units::MetaBlocks;

    #[test]
    fn a_device_id_has_24_bits() {
        assert_eq!(ThinId::new(0xff_ffff).unwrap(), ThinId::MAX);
        assert!(matches!(
            ThinId::new(0x100_0000),
            Err(ThinIdError { id: 0x100_0000 })
        ));
    }

    #[test]
    fn the_kernel_uses_at_most_4161600_metadata_blocks() {
        assert_eq!(MAX_METADATA_BLOCKS, MetaBlocks(4_161_600));
    }
}
