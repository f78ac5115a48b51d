//! Where a thin block's data is.

use crate::thin::format::TIME_BITS;

/// A time in a mapping is below this.
pub(in crate::thin) const MAX_TIME: u32 = 1 << TIME_BITS;

/// Where a thin block's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataPlace {
    /// Data block of the pool, below 2^40.
    pub data_block: u64,
    /// The pool's time when it was mapped, below 2^24.
    pub time: u32,
}
