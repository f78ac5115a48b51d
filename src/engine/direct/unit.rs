//! Units of work: stretches of the data file.

use std::ops::Range;

use crate::ext4::write::CLUSTER_BLOCKS;
use crate::plan::DeviceIndex;
use crate::units::BLOCK_BYTES;

#[allow(clippy::cast_possible_truncation)] // 4096; `try_from` is not const
pub(super) const BLOCK: usize = BLOCK_BYTES as usize;

pub(super) const CLUSTER: usize = CLUSTER_BLOCKS as usize * BLOCK;

/// A stretch of one device's clusters that is written with one call.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) device: DeviceIndex,
    pub(super) clusters: Range<usize>,
}
