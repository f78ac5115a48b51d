//! Writing a pool's whole metadata, each distinct node once, in one pass over consecutive blocks.

use std::io;
use std::mem::size_of;

use zerocopy::little_endian::{U32, U64};

use super::block_writer::BlockWriter;
use super::btree::{tree_blocks, write_node, write_tree};
use super::census::Census;
use super::space_map::{
    data_space_map_blocks, metadata_space_map_blocks, write_data_space_map,
    write_metadata_space_map,
};
use crate::thin::error::Error;
use crate::thin::format::{Block, INTERNAL_NODE, LEAF_NODE, RawDeviceDetails};
use crate::thin::mapping::Node;
use crate::thin::pool::{Device, Pool};
use crate::thin::ref_counts::MAX_SMALL_COUNT;
use crate::thin::superblock::Superblock;
use crate::units::MetaBlocks;

/// Mapping nodes come first, right after the superblock.
const FIRST_NODE: u64 = 1;

impl Pool {
    /// Checks that the pool can be written and that the kernel will not confuse its devices' data.
    ///
    /// # Errors
    ///
    /// The refusals in [`Error`]: limits of the format, ids and times, data blocks out of range, a shared block that a
    /// device would write in place, and [`Error::MetadataFull`].
    pub fn validate(&self) -> Result<(), Error> {
        self.census().map(drop)
    }

    /// Metadata blocks that the image takes, the superblock included. Nothing is written.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate), except that the pool need not fit its metadata device.
    pub fn metadata_blocks_needed(&self) -> Result<MetaBlocks, Error> {
        Ok(self.blocks_needed(&Census::of(self)?))
    }

    /// Encodes the pool. `sink` gets blocks 1 and up without a gap, in pieces of up to 1 MiB: the first block's number,
    /// and the bytes. The result is block 0, the superblock.
    ///
    /// Until block 0 is written the kernel takes the device for unformatted. So zero it in a file that existed before,
    /// write the pieces, sync the data device and this one, write block 0, sync again.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](Self::validate), before `sink` gets anything; [`Error::Write`] if `sink` fails.
    pub fn encode(
        &self,
        sink: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> Result<[u8; 4096], Error> {
        let census = self.census()?;
        let mut out = BlockWriter::new(sink);
        write_mapping_nodes(&mut out, &census)?;
        let details_root = write_details(&mut out, &census)?;
        let mapping_root = write_top_level(&mut out, &census)?;
        let data = write_data_space_map(&mut out, self.nr_data_blocks.0, &census.data)?;
        let metadata =
            write_metadata_space_map(&mut out, self.nr_metadata_blocks.0, &shared_nodes(&census))?;
        out.flush()?;
        let superblock: Block = Superblock {
            time: self.time,
            transaction_id: self.transaction_id,
            data,
            metadata,
            mapping_root,
            details_root,
            data_block_size: self.data_block_size,
        }
        .encode();
        Ok(superblock)
    }

    /// The census of a pool that is fit to be written.
    fn census(&self) -> Result<Census<'_>, Error> {
        let census = Census::of(self)?;
        let needed = self.blocks_needed(&census);
        if needed > self.nr_metadata_blocks {
            return Err(Error::MetadataFull {
                needed: needed.0,
                available: self.nr_metadata_blocks.0,
            });
        }
        Ok(census)
    }

    fn blocks_needed(&self, census: &Census<'_>) -> MetaBlocks {
        let nr_devices = census.devices.len() as u64;
        let large_nodes = census.nodes.iter().filter(|n| n.refs > MAX_SMALL_COUNT);
        let large_data = census.data.large().count() as u64;
        MetaBlocks(
            FIRST_NODE
                + census.nodes.len() as u64
                + tree_blocks(nr_devices, size_of::<RawDeviceDetails>())
                + tree_blocks(nr_devices, size_of::<U64>())
                + data_space_map_blocks(self.nr_data_blocks.0, large_data)
                + metadata_space_map_blocks(self.nr_metadata_blocks.0, large_nodes.count() as u64),
        )
    }
}

/// The block a mapping node is written to.
fn node_block(place: usize) -> u64 {
    FIRST_NODE + place as u64
}

fn write_mapping_nodes(out: &mut BlockWriter<'_>, census: &Census<'_>) -> Result<(), Error> {
    for counted in &census.nodes {
        match counted.node {
            Node::Leaf(leaf) => {
                let entries = leaf.entries().map(|(key, value)| (key, U64::new(value.0)));
                write_node(out, LEAF_NODE, entries)?;
            }
            Node::Internal(internal) => {
                let children = internal.children.iter().map(|child| {
                    let block = node_block(census.place(&child.node));
                    (child.key, U64::new(block))
                });
                write_node(out, INTERNAL_NODE, children)?;
            }
        }
    }
    Ok(())
}

/// Mapping nodes that more than one pointer leads to, by block.
fn shared_nodes(census: &Census<'_>) -> Vec<(u64, u32)> {
    let nodes = census.nodes.iter().enumerate();
    nodes
        .filter(|(_, counted)| counted.refs > 1)
        .map(|(place, counted)| (node_block(place), counted.refs))
        .collect()
}

fn write_details(out: &mut BlockWriter<'_>, census: &Census<'_>) -> Result<u64, Error> {
    let entries = census.devices.iter().map(|(device, _)| {
        let details = RawDeviceDetails {
            mapped_blocks: U64::new(device.mapping.len()),
            transaction_id: U64::new(device.transaction_id),
            creation_time: U32::new(device.creation_time),
            snapshotted_time: U32::new(device.snapshotted_time),
        };
        (key(device), details)
    });
    write_tree(out, entries.len(), entries)
}

fn write_top_level(out: &mut BlockWriter<'_>, census: &Census<'_>) -> Result<u64, Error> {
    let entries = census
        .devices
        .iter()
        .map(|(device, root)| (key(device), U64::new(node_block(*root))));
    write_tree(out, entries.len(), entries)
}

fn key(device: &Device) -> u64 {
    u64::from(device.id.value())
}
