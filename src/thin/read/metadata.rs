//! Reading a pool's metadata, with every check that can be made.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use zerocopy::FromBytes;
use zerocopy::little_endian::U64;

use super::btree::{MappingReader, Pointer, TreeReader, read_block};
use super::space_map::{check_data, check_metadata};
use crate::thin::block_kind::BlockKind;
use crate::thin::error::{Error, Fault, malformed};
use crate::thin::format::{BLOCK_SIZE, MAGIC, RawDeviceDetails, RawSuperblock};
use crate::thin::id::ThinId;
use crate::thin::mapping::Mapping;
use crate::thin::pool::{Device, Pool};
use crate::thin::remarks::Remarks;
use crate::thin::superblock::{Superblock, held_roots};
use crate::units::{DataBlocks, MetaBlocks};

pub(super) use super::btree::ReadBlocks;

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

/// A pool that was read, and what is odd about it.
#[derive(Debug)]
pub struct PoolReading {
    /// The pool. Devices come by ascending id and share what they share on disk.
    pub pool: Pool,
    /// What the kernel puts up with, and leaves itself at times.
    pub remarks: Remarks,
}

/// Reads a pool's metadata, in which nothing may be odd.
///
/// # Errors
///
/// As [`examine`]; also with the first of its remarks.
pub fn read(source: &dyn ReadBlocks) -> Result<Pool, Error> {
    let PoolReading { pool, remarks } = examine(source)?;
    remarks.into_result().map(|()| pool)
}

/// Reads a pool's metadata.
///
/// Every block in use is read, once, and checked: checksum and place, fill and order of nodes, ranges of pointers, data
/// blocks and thin blocks, mappings counted per device, and both space maps against the references there are; those of a
/// metadata snapshot too. Nothing on the device can cause a panic or more work than its blocks. Times are not judged;
/// [`Pool::validate`] does.
///
/// # Errors
///
/// [`Error::Read`], and all that are about metadata read, but for those that the kernel puts up with: they are remarks.
pub fn examine(source: &dyn ReadBlocks) -> Result<PoolReading, Error> {
    let mut remarks = Remarks::default();
    let block = read_block(source, BlockKind::Superblock, 0)?;
    let (superblock, held_root) = Superblock::examine(&block, &mut remarks)?;
    let mut blocks = TreeReader::new(source, superblock.metadata.nr_blocks);
    blocks.remarks.append(remarks);
    let (details, roots) = device_trees(&mut blocks, &superblock)?;
    let held = held_root.map_or(Ok(Vec::new()), |held| held_mappings(&mut blocks, held))?;
    let nr_data_blocks = superblock.data.nr_blocks;
    let mut mappings = MappingReader::new(&mut blocks, nr_data_blocks);
    let mut devices = Vec::with_capacity(details.len());
    for ((id, details), root) in details.into_iter().zip(roots) {
        let mapping = mappings.mapping(Pointer::in_node(superblock.mapping_root, root))?;
        mappings.expect_len(id, mapping.len(), details.mapped_blocks.get());
        devices.push(device(id, &details, mapping));
    }
    for pointer in held {
        mappings.mapping(pointer)?;
    }
    let data = mappings.data;
    check_data(&mut blocks, superblock.data, &data)?;
    check_metadata(&mut blocks, superblock.metadata)?;
    let pool = Pool {
        data_block_size: superblock.data_block_size,
        nr_data_blocks: DataBlocks(nr_data_blocks),
        nr_metadata_blocks: MetaBlocks(superblock.metadata.nr_blocks),
        transaction_id: superblock.transaction_id,
        time: superblock.time,
        devices,
    };
    Ok(PoolReading {
        pool,
        remarks: blocks.remarks,
    })
}

fn device(id: ThinId, details: &RawDeviceDetails, mapping: Mapping) -> Device {
    Device {
        id,
        mapping,
        transaction_id: details.transaction_id.get(),
        creation_time: details.creation_time.get(),
        snapshotted_time: details.snapshotted_time.get(),
    }
}

/// Counts what a metadata snapshot points to; returns the pointers to mappings that are not in the pool's own tree.
fn held_mappings(blocks: &mut TreeReader<'_>, held: u64) -> Result<Vec<Pointer>, Error> {
    blocks.count_only(Pointer::in_superblock(held))?;
    let block = blocks.read(BlockKind::Superblock, held)?;
    let roots = held_roots(held, &block)?;
    let [mappings, details] = roots.map(|to| Pointer::within(held, BlockKind::Superblock, to));
    blocks.count_tree::<RawDeviceDetails>(details, 0, &mut Vec::new())?;
    let mut roots: Vec<(u64, U64)> = Vec::new();
    blocks.count_tree(mappings, 0, &mut roots)?;
    let pointers = roots
        .into_iter()
        .map(|(leaf, root)| Pointer::in_node(leaf, root.get()));
    Ok(pointers.collect())
}

/// Readings of metadata that something commits to meanwhile.
const READINGS: u32 = 8;

/// Reads the metadata of an active pool in the state of one commit. What one commit frees the next may overwrite, so a reading
/// during which the superblock changed may be of two of them, and is made again.
///
/// `superblock` reads that block anew each time, `read` all it needs.
///
/// # Errors
///
/// Those of `superblock`, `ResourceBusy` when it changes all the time; those of `read` are part of what it returns.
pub fn read_steady<T>(
    mut superblock: impl FnMut() -> io::Result<[u8; 4096]>,
    mut read: impl FnMut() -> T,
) -> io::Result<T> {
    let mut before = superblock()?;
    for _ in 0..READINGS {
        let outcome = read();
        let after = superblock()?;
        if after == before {
            return Ok(outcome);
        }
        before = after;
    }
    let message = "the pool's metadata keeps changing";
    Err(io::Error::new(io::ErrorKind::ResourceBusy, message))
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
    Ok(superblock(source)?.transaction_id)
}

/// The ids of a pool's devices, ascending, each with the pool's transaction id when it was made; reads no more than the superblock and
/// the two trees of devices.
///
/// # Errors
///
/// As [`read`], for the blocks it reads.
pub fn devices_made(source: &dyn ReadBlocks) -> Result<Vec<(ThinId, u64)>, Error> {
    let superblock = superblock(source)?;
    let mut blocks = TreeReader::new(source, superblock.metadata.nr_blocks);
    let (details, _) = device_trees(&mut blocks, &superblock)?;
    let made = |(id, details): (ThinId, RawDeviceDetails)| (id, details.transaction_id.get());
    Ok(details.into_iter().map(made).collect())
}

fn superblock(source: &dyn ReadBlocks) -> Result<Superblock, Error> {
    Superblock::parse(&read_block(source, BlockKind::Superblock, 0)?)
}

/// Devices by ascending id: what is noted of each.
type Details = Vec<(ThinId, RawDeviceDetails)>;

/// The details of all devices and, in the same order, the roots of their mapping trees.
fn device_trees(
    blocks: &mut TreeReader<'_>,
    superblock: &Superblock,
) -> Result<(Details, Vec<u64>), Error> {
    let details: Vec<(u64, RawDeviceDetails)> =
        blocks.entries(Pointer::in_superblock(superblock.details_root))?;
    let roots: Vec<(u64, U64)> = blocks.entries(Pointer::in_superblock(superblock.mapping_root))?;
    if let Some(id) = first_difference(&details, &roots) {
        return Err(Error::HalfDevice { id });
    }
    let details = details
        .into_iter()
        .map(|(number, details)| {
            let id = u32::try_from(number).ok().map(ThinId::new);
            let fault = Fault::DeviceId(number);
            let outside = || malformed(superblock.details_root, BlockKind::Node, fault);
            Ok((id.and_then(Result::ok).ok_or_else(outside)?, details))
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Superblocks that begin with the numbers, one after another; the last again and again.
    fn superblocks(numbers: &[u8]) -> impl FnMut() -> io::Result<[u8; 4096]> {
        let mut at = 0;
        move || {
            let mut block = [0; 4096];
            block[0] = numbers[at.min(numbers.len() - 1)];
            at += 1;
            Ok(block)
        }
    }

    fn readings(numbers: &[u8]) -> u32 {
        let readings = Cell::new(0);
        let read = || {
            readings.set(readings.get() + 1);
            readings.get()
        };
        let kept = read_steady(superblocks(numbers), read).unwrap();
        assert_eq!(kept, readings.get(), "the last reading is kept");
        kept
    }

    #[test]
    fn metadata_is_read_again_until_nothing_was_committed_meanwhile() {
        assert_eq!(readings(&[1]), 1);
        assert_eq!(readings(&[1, 2]), 2);
        assert_eq!(readings(&[1, 2, 3, 3]), 3);
        let always: Vec<_> = (0..=255).collect();
        let busy = read_steady(superblocks(&always), || ()).unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::ResourceBusy);
        let failing = || Err(io::ErrorKind::UnexpectedEof.into());
        read_steady(failing, || panic!("there is nothing to read")).unwrap_err();
    }
}
