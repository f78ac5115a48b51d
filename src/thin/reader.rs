//! Reading a pool's metadata, with every check that can be made.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use zerocopy::FromBytes;
use zerocopy::little_endian::U64;

use super::error::Error;
use super::format::{BLOCK_SIZE, MAGIC, RawDeviceDetails, RawSuperblock};
use super::pool::{Device, Pool, ThinId};
use super::space_map_check::{check_data, check_metadata};
use super::superblock::{SpaceMapRoot, Superblock};
use super::tree_reader::{MappingReader, Pointer, TreeReader, read_block};
use crate::units::{DataBlocks, MetaBlocks};

pub use super::tree_reader::ReadBlocks;

impl ReadBlocks for File {
    fn read_block(&self, nr: u64, block: &mut [u8; 4096]) -> io::Result<()> {
        self.read_exact_at(block, nr * BLOCK_SIZE as u64)
    }
}

impl ReadBlocks for Vec<u8> {
    fn read_block(&self, nr: u64, block: &mut [u8; 4096]) -> io::Result<()> {
        let nr = usize::try_from(nr).unwrap_or(usize::MAX);
        let bytes = self.chunks_exact(BLOCK_SIZE).nth(nr);
        block.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Reads a pool's metadata. Devices come by ascending id and share what they share on disk.
///
/// Every block in use is read, once, and checked: checksum and place, fill and order of nodes, ranges of pointers, data
/// blocks and thin blocks, mappings counted per device, and both space maps against the references there are. Nothing
/// on the device can cause a panic or more work than its blocks. Times are not judged; [`Pool::validate`] does.
///
/// # Errors
///
/// [`Error::Read`], and all that are about metadata read.
pub fn read(source: &dyn ReadBlocks) -> Result<Pool, Error> {
    let superblock = Superblock::parse(&read_block(source, 0)?)?;
    let mut blocks = TreeReader::new(source, superblock.metadata.nr_blocks);
    let (details, roots) = device_trees(&mut blocks, &superblock)?;
    let SpaceMapRoot { nr_blocks, .. } = superblock.data;
    let mut mappings = MappingReader::new(&mut blocks, nr_blocks);
    let mut devices = Vec::with_capacity(details.len());
    for (id, details) in details {
        let at = superblock.mapping_root;
        let to = roots[devices.len()];
        let mapping = mappings.mapping(Pointer { at, to })?;
        if details.mapped_blocks.get() != mapping.len() {
            return Err(Error::MappedBlocks {
                id,
                stored: details.mapped_blocks.get(),
                counted: mapping.len(),
            });
        }
        devices.push(Device {
            id,
            mapping,
            transaction_id: details.transaction_id.get(),
            creation_time: details.creation_time.get(),
            snapshotted_time: details.snapshotted_time.get(),
        });
    }
    let data = mappings.data;
    check_data(&mut blocks, superblock.data, &data)?;
    check_metadata(&mut blocks, superblock.metadata)?;
    Ok(Pool {
        data_block_size: superblock.data_block_size,
        nr_data_blocks: DataBlocks(nr_blocks),
        nr_metadata_blocks: MetaBlocks(superblock.metadata.nr_blocks),
        transaction_id: superblock.transaction_id,
        time: superblock.time,
        devices,
    })
}

/// Whether a device that begins with this block holds, or held, a pool's metadata.
pub fn begins_a_pool(block: &[u8; 4096]) -> bool {
    let (raw, _) = RawSuperblock::ref_from_prefix(block).expect("a block has room");
    raw.magic.get() == MAGIC
}

/// A pool's transaction id; reads no more than the superblock.
///
/// # Errors
///
/// As [`read`], for that block.
pub fn transaction_id(source: &dyn ReadBlocks) -> Result<u64, Error> {
    Ok(Superblock::parse(&read_block(source, 0)?)?.transaction_id)
}

/// The ids of a pool's devices, ascending; reads no more than the superblock and the two trees of devices.
///
/// # Errors
///
/// As [`read`], for the blocks it reads.
pub fn device_ids(source: &dyn ReadBlocks) -> Result<Vec<ThinId>, Error> {
    let superblock = Superblock::parse(&read_block(source, 0)?)?;
    let mut blocks = TreeReader::new(source, superblock.metadata.nr_blocks);
    let (details, _) = device_trees(&mut blocks, &superblock)?;
    Ok(details.into_iter().map(|(id, _)| id).collect())
}

/// Devices by ascending id: what is noted of each.
type Details = Vec<(ThinId, RawDeviceDetails)>;

/// The details of all devices and, in the same order, the roots of their mapping trees.
fn device_trees(
    blocks: &mut TreeReader<'_>,
    superblock: &Superblock,
) -> Result<(Details, Vec<u64>), Error> {
    let pointer = |to| Pointer { at: 0, to };
    let details: Vec<(u64, RawDeviceDetails)> = blocks.entries(pointer(superblock.details_root))?;
    let roots: Vec<(u64, U64)> = blocks.entries(pointer(superblock.mapping_root))?;
    if let Some(id) = first_difference(&details, &roots) {
        return Err(Error::HalfDevice { id });
    }
    let details = details
        .into_iter()
        .map(|(id, details)| {
            let id = u32::try_from(id).unwrap_or(u32::MAX);
            Ok((ThinId::new(id)?, details))
        })
        .collect::<Result<_, Error>>()?;
    Ok((details, roots.iter().map(|(_, root)| root.get()).collect()))
}

/// The lowest key that is in one of two ascending lists only.
fn first_difference<A, B>(a: &[(u64, A)], b: &[(u64, B)]) -> Option<u64> {
    let same = a.iter().zip(b).take_while(|(a, b)| a.0 == b.0).count();
    let a = a.get(same).map(|entry| entry.0);
    let b = b.get(same).map(|entry| entry.0);
    a.into_iter().chain(b).min()
}
