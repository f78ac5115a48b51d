//! The space that a plan needs, estimated without a layout. For the kernel engine, where the kernel itself decides
//! where blocks go.

use super::devices::{Plan, PlannedDevice};
use super::graph::LayerGraph;
use crate::devicemapper::driver_files::FileSystem;
use crate::source::Layer;
use crate::thin;
use crate::tree::{Kind, LayerTree, Regular};
use crate::units::{BLOCK_BYTES, Bytes, DataBlocks, MetaBlocks};

/// An upper bound for the bytes of an inode in either file system, with its name and its share of a directory.
const ENTRY: u64 = 1024;
/// The cost in pool blocks of any write into a snapshot: journal, bitmaps, superblock, each in a pool block of its own.
const DEVICE_BLOCKS: u64 = 24;
/// The number of mappings in a full leaf, which is copied when one of them changes. Source: docs/thin-metadata.md.
const LEAF: u64 = 252;
/// The size of ext4's largest journal below 128 GiB, which is more than xfs's log needs. Source: e2fsprogs 1.47
/// `lib/ext2fs/mkjournal.c`; xfsprogs 6.1 `mkfs/xfs_mkfs.c`.
const JOURNAL: Bytes = Bytes::mib(256);
/// The size of an ext4 inode in its table.
const INODE: u64 = 256;

/// The space that must be free in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of file data: no engine needs less.
    pub least: Bytes,
    /// Bytes of data blocks, an upper estimate.
    pub data: Bytes,
    /// Blocks of pool metadata, an upper estimate.
    pub metadata: MetaBlocks,
}

impl Plan {
    /// The space that the plan needs in a pool with data blocks of `data_block` bytes.
    ///
    /// # Panics
    ///
    /// Panics if `data_block` is 0.
    pub fn needs(&self, data_block: Bytes) -> Needs {
        let trees = || self.devices.iter().filter_map(tree);
        let least = trees().map(file_bytes).sum();
        let base = match self.file_system {
            FileSystem::Ext4 => self.base_size.0 / u64::from(self.bytes_per_inode.max(1)) * INODE,
            FileSystem::Xfs => self.base_size.0 / 2048,
        };
        let content: u64 = trees().map(tree_bytes).sum();
        let overhead = self.devices.len() as u64 * DEVICE_BLOCKS * data_block.0;
        let data = (base + JOURNAL.0 + content + overhead).next_multiple_of(data_block.0);
        let estimate = thin::Estimate {
            mappings: data / data_block.0 + self.devices.len() as u64 * DEVICE_BLOCKS * LEAF,
            devices: self.devices.len() as u64,
            nr_data_blocks: DataBlocks(data / data_block.0),
        };
        Needs {
            least: Bytes(least),
            data: Bytes(data),
            metadata: estimate.image(),
        }
    }
}

fn tree(device: &PlannedDevice) -> Option<&LayerTree> {
    device.layer.as_ref().map(|layer| &layer.tree)
}

/// The size in bytes of every layer's chain, as if nothing were ever removed.
pub(super) fn chains(graph: &LayerGraph, layers: &[Layer]) -> Vec<Bytes> {
    let mut chains: Vec<Bytes> = Vec::with_capacity(layers.len());
    for ((_, _, parent), layer) in graph.iter().zip(layers) {
        let below = parent.map_or(0, |at| chains[at.0].0);
        chains.push(Bytes(below + tree_bytes(&layer.tree)));
    }
    chains
}

fn file_bytes(tree: &LayerTree) -> u64 {
    let files = tree.nodes().filter_map(|(_, node)| match &node.kind {
        Kind::Regular(regular) => Some(allocated(regular)),
        _ => None,
    });
    files.sum()
}

fn tree_bytes(tree: &LayerTree) -> u64 {
    file_bytes(tree) + ENTRY * tree.nr_nodes() as u64
}

/// The bytes of whole blocks that hold data.
fn allocated(file: &Regular) -> u64 {
    let whole = |start: u64, end: u64| {
        end.next_multiple_of(BLOCK_BYTES) - start / BLOCK_BYTES * BLOCK_BYTES
    };
    match &file.segments {
        None => whole(0, file.size),
        Some(segments) => segments.iter().map(|one| whole(one.start, one.end)).sum(),
    }
}
