//! How large a metadata device should be.

use std::mem::size_of;

use zerocopy::little_endian::U64;

use super::btree::tree_blocks;
use super::space_map::{data_space_map_blocks, metadata_space_map_blocks};
use crate::thin::format::RawDeviceDetails;
use crate::thin::node_size::max_entries;
use crate::units::{DataBlocks, MetaBlocks};

/// A pool's size in numbers, before its mappings are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Mappings in leaves that are distinct. The sum over all devices is never too low; it is far too high where
    /// devices share most of theirs.
    pub mappings: u64,
    /// Thin devices.
    pub devices: u64,
    /// Blocks of the data device.
    pub nr_data_blocks: DataBlocks,
}

impl Estimate {
    /// Metadata blocks that an image of such a pool takes at most, on a metadata device of up to 2 GiB, whose space map
    /// it includes; a larger device costs one block more for each 16320.
    pub fn image(&self) -> MetaBlocks {
        let nodes = self.devices.saturating_add(worst_nodes(self.mappings));
        let trees = tree_blocks(self.devices, size_of::<RawDeviceDetails>())
            + tree_blocks(self.devices, size_of::<U64>());
        // A count above 2 takes three mappings, or three pointers to a node.
        let large_data = (self.mappings / 3).min(self.nr_data_blocks.0);
        let data = data_space_map_blocks(self.nr_data_blocks.0, large_data);
        let metadata = metadata_space_map_blocks(DEFAULT_DEVICE.0, nodes);
        let blocks = [1, nodes, trees, data, metadata].into_iter();
        MetaBlocks(blocks.fold(0, u64::saturating_add))
    }

    /// Metadata blocks that a device for such a pool should have; see [`device_size`].
    pub fn device(&self) -> MetaBlocks {
        device_size(self.image(), self.nr_data_blocks)
    }
}

/// Docker's default metadata device: 2 GiB. Source: moby v19.03 `daemon/graphdriver/devmapper/deviceset.go`.
const DEFAULT_DEVICE: MetaBlocks = MetaBlocks(2 << 30 >> 12);

/// Metadata blocks that a device should have for an image of `image` blocks, so that the pool can be used afterwards.
///
/// Room for each block of the image being copied once within a transaction, for the whole data device being mapped in
/// nodes a third full, and a tenth of the result left free: Docker creates no devices below that, and the kernel itself
/// holds up to a tenth back (4096 blocks at most).
pub fn device_size(image: MetaBlocks, nr_data_blocks: DataBlocks) -> MetaBlocks {
    let grown = image
        .0
        .saturating_mul(2)
        .saturating_add(worst_nodes(nr_data_blocks.0));
    MetaBlocks(grown.saturating_add(grown.div_ceil(9)))
}

/// Nodes that hold this many mappings in one tree of nodes a third full, and all above them.
fn worst_nodes(mappings: u64) -> u64 {
    let least = max_entries(size_of::<U64>()) as u64 / 3;
    // Each level is at most 1/84 of the one below, so all above the leaves are less than 1/83 of them.
    let leaves = mappings.div_ceil(least);
    leaves.saturating_add(leaves.div_ceil(least - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_gib_are_enough_for_a_thousand_devices_on_a_full_default_pool() {
        let pool = Estimate {
            mappings: 1_638_400,
            devices: 1000,
            nr_data_blocks: DataBlocks(1_638_400),
        };
        assert!(pool.device() < DEFAULT_DEVICE, "{:?}", pool.device());
        assert!(pool.image() < pool.device());
    }

    #[test]
    fn absurd_numbers_saturate() {
        let pool = Estimate {
            mappings: u64::MAX,
            devices: u64::MAX,
            nr_data_blocks: DataBlocks(1 << 40),
        };
        assert_eq!(pool.device(), MetaBlocks(u64::MAX));
    }
}
