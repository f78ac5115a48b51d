//! The parts of an entry that a tar does not determine with certainty.

use std::ops::{BitOr, BitOrAssign};

/// Attributes that may differ from the tar although nothing is damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::verify) struct Unsure(u8);

impl Unsure {
    /// All attributes: a directory that has no entry of its own.
    pub(in crate::verify) const ALL: Self = Self(1);
    /// The owner.
    pub(in crate::verify) const OWNER: Self = Self(2);
    /// The mode.
    pub(in crate::verify) const MODE: Self = Self(4);
    /// The modification time.
    pub(in crate::verify) const TIME: Self = Self(8);
    /// The sub-second part of that time.
    pub(in crate::verify) const FRACTION: Self = Self(16);
    /// Setuid, setgid and capabilities.
    pub(in crate::verify) const PRIVILEGE: Self = Self(32);

    /// Whether all of these are unsure.
    pub(in crate::verify) fn has(self, these: Self) -> bool {
        self.0 & these.0 == these.0
    }
}

impl BitOr for Unsure {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Unsure {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
