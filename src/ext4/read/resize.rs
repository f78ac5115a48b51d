//! The resize inode: a block map that keeps blocks behind every descriptor table for a larger one.
//!
//! Source: linux v6.6 `fs/ext4/resize.c`, e2fsprogs v1.47.0 `lib/ext2fs/res_gdt.c`. Its double indirect block names the
//! blocks kept behind the first table, each of which names those in its place behind the copies.

use super::error::Error;
use super::extents::Mapping;
use super::fault::InodeFault;
use super::inode::{InodeFields, word};
use super::layout::Geometry;
use super::owner::{Owner, Part};
use super::work::Work;
use crate::ext4::ino::Ino;

/// `EXT4_RESIZE_INO`.
pub(super) const INO: Ino = Ino(7);
/// The double indirect block's place in `i_block`.
const DOUBLE: usize = 13;

/// Takes its one block that is not part of the descriptor tables; the others are counted for `i_blocks`.
pub(super) fn read(
    work: &mut Work<'_>,
    own: &InodeFields,
    faults: &mut Vec<InodeFault>,
) -> Result<Mapping, Error> {
    let block = u64::from(word(&own.i_block, DOUBLE));
    if !work.geometry.features.resize_inode() {
        if own.i_block.iter().any(|&byte| byte != 0) {
            faults.push(InodeFault::Resize(
                "has blocks, but the file system lacks the feature",
            ));
        }
        return Ok(Mapping::default());
    }
    let others = (0..15).filter(|&at| at != DOUBLE);
    if others.into_iter().any(|at| word(&own.i_block, at) != 0) || !work.geometry.is_block(block) {
        faults.push(InodeFault::Resize(
            "has blocks other than a double indirect one",
        ));
        return Ok(Mapping::default());
    }
    if !work.claim(block, 1, Owner::new(INO, Part::Node)) {
        faults.push(InodeFault::Claimed { block, blocks: 1 });
        return Ok(Mapping {
            is_contested: true,
            ..Mapping::default()
        });
    }
    if !is_right(work, block)? {
        faults.push(InodeFault::Resize("names blocks other than those reserved"));
    }
    Ok(Mapping {
        nodes: [block].into(),
        ..Mapping::default()
    })
}

/// Blocks of it that are part of the descriptor tables' area.
pub(super) fn kept_blocks(geometry: &Geometry) -> u64 {
    let copies = (0..geometry.groups)
        .filter(|&group| geometry.has_super(group))
        .count();
    copies as u64 * u64::from(geometry.reserved_gdt)
}

fn is_right(work: &Work<'_>, block: u64) -> Result<bool, Error> {
    let geometry = &work.geometry;
    let per_block = geometry.block_bytes / 4;
    let copies: Vec<u64> = (1..geometry.groups)
        .filter(|&group| geometry.has_super(group))
        .map(|group| u64::from(group) * u64::from(geometry.blocks_per_group))
        .collect();
    let names = |bytes: &[u8], at: usize| {
        let word = bytes[4 * at..][..4].try_into().expect("four bytes");
        u64::from(u32::from_le_bytes(word))
    };
    let double = work.read_block(block)?;
    let tables = geometry.descriptor_blocks();
    let place = |kept: u32| geometry.first_block + 1 + u64::from(tables + kept);
    let mut expected = vec![0; per_block as usize];
    for kept in 0..geometry.reserved_gdt {
        expected[((tables + kept) % per_block) as usize] = place(kept);
    }
    if !(0..expected.len()).all(|at| names(&double, at) == expected[at]) {
        return Ok(false);
    }
    for kept in 0..geometry.reserved_gdt {
        let single = work.read_block(place(kept))?;
        let copies = copies.iter().map(|copy| place(kept) + copy);
        let expected = copies.chain(std::iter::repeat(0));
        let found = (0..per_block as usize).map(|at| names(&single, at));
        if found
            .zip(expected)
            .any(|(found, expected)| found != expected)
        {
            return Ok(false);
        }
    }
    Ok(true)
}
