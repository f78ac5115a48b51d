//! Checksums of metadata blocks, and the block number each one repeats.
//!
//! A block's checksum is CRC-32C over bytes 4 to 4095 without the final inversion, xored with a constant that differs
//! by kind of block, so that one kind never passes for another. Source: linux v6.6 `dm_bm_checksum` and the `*_CSUM_XOR`
//! constants beside each validator.

use super::block_kind::BlockKind;
use super::error::Error;
use super::format::Block;

/// Completes a block that is to be written as number `nr`: its number, then its checksum.
pub(super) fn seal(kind: BlockKind, nr: u64, block: &mut Block) {
    block[8..16].copy_from_slice(&nr.to_le_bytes());
    let sum = checksum(kind, block);
    block[..4].copy_from_slice(&sum.to_le_bytes());
}

/// Checks that a block read as number `nr` is of this kind, undamaged and in its place.
///
/// # Errors
///
/// [`Error::Checksum`], [`Error::Misplaced`].
pub(super) fn verify(kind: BlockKind, nr: u64, block: &Block) -> Result<(), Error> {
    let stored = u32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    let computed = checksum(kind, block);
    if stored != computed {
        return Err(Error::Checksum {
            block: nr,
            kind,
            stored,
            computed,
        });
    }
    let mut number = [0; 8];
    number.copy_from_slice(&block[8..16]);
    let found = u64::from_le_bytes(number);
    if found != nr {
        return Err(Error::Misplaced {
            block: nr,
            kind,
            found,
        });
    }
    Ok(())
}

fn checksum(kind: BlockKind, block: &Block) -> u32 {
    !crc32c::crc32c(&block[4..]) ^ kind.salt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_block_verifies_only_as_its_kind_and_number() {
        let mut block = [7; 4096];
        seal(BlockKind::Node, 5, &mut block);
        assert!(verify(BlockKind::Node, 5, &block).is_ok());
        assert!(matches!(
            verify(BlockKind::Node, 6, &block),
            Err(Error::Misplaced { found: 5, .. })
        ));
        assert!(matches!(
            verify(BlockKind::Bitmap, 5, &block),
            Err(Error::Checksum { .. })
        ));
    }

    #[test]
    fn the_sum_equals_that_of_a_superblock_made_by_thin_restore() {
        // An empty pool of 8 data blocks, thin_restore 0.9.0: the bytes that are not zero.
        let mut block = [0; 4096];
        for (at, bytes) in crate::thin::superblock::tests::RESTORED {
            block[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        assert!(verify(BlockKind::Superblock, 0, &block).is_ok());
    }
}
