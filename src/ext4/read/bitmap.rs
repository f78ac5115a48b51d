//! One group's bits: which of its blocks or inodes are taken, as found, not as its bitmap says.

use std::ops::Range;
use std::sync::Arc;

const WORD: u32 = 64;
/// Words in a piece.
const PIECE: usize = 64;
/// Pieces for the most bits that a group has, 32768.
const PIECES: usize = 8;

/// A persistent set of bits, up to 32768. A copy shares all pieces of 4096 that neither side changes; those without any
/// set take no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits([Option<Arc<[u64; PIECE]>>; PIECES]);

/// The first place where a bitmap differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// The bit's number.
    pub(super) bit: u32,
    /// Whether the bitmap on disk has it set.
    pub(super) is_set: bool,
    /// How many bits differ.
    pub(super) bits: u32,
}

impl Bits {
    /// Sets bits. False when one of them was set before; the others are set all the same.
    pub(super) fn set(&mut self, range: Range<u32>) -> bool {
        let mut is_new = true;
        for (at, mask) in masks(range) {
            let piece = self.0[at / PIECE].get_or_insert_with(|| Arc::new([0; PIECE]));
            let word = &mut Arc::make_mut(piece)[at % PIECE];
            is_new &= *word & mask == 0;
            *word |= mask;
        }
        is_new
    }

    pub(super) fn clear(&mut self, range: Range<u32>) {
        for (at, mask) in masks(range) {
            if let Some(piece) = &mut self.0[at / PIECE] {
                Arc::make_mut(piece)[at % PIECE] &= !mask;
            }
        }
    }

    /// How many are set.
    pub(super) fn count(&self) -> u32 {
        let words = self.0.iter().flatten().flat_map(|piece| piece.iter());
        words.map(|word| word.count_ones()).sum()
    }

    /// The number behind the last one that is set.
    pub(super) fn end(&self) -> u32 {
        let words = (0_u32..).zip((0..PIECE * PIECES).map(|at| self.word(at)));
        let last = words.filter(|(_, word)| *word != 0).last();
        last.map_or(0, |(at, word)| at * WORD + WORD - word.leading_zeros())
    }

    fn word(&self, at: usize) -> u64 {
        self.0[at / PIECE]
            .as_ref()
            .map_or(0, |piece| piece[at % PIECE])
    }

    /// Where a bitmap on disk, of `size` bits, says otherwise.
    pub(super) fn difference(&self, bitmap: &[u8], size: u32) -> Option<Difference> {
        let mut found: Option<Difference> = None;
        let words = size.div_ceil(WORD) as usize;
        for (at, bytes) in (0_u32..).zip(bitmap.chunks(8)).take(words) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            let word = u64::from_le_bytes(word);
            let valid = !0_u64 >> (WORD - (size - at * WORD).min(WORD));
            let differ = (word ^ self.word(at as usize)) & valid;
            if differ == 0 {
                continue;
            }
            let bit = differ.trailing_zeros();
            let first = found.get_or_insert(Difference {
                bit: at * WORD + bit,
                is_set: word >> bit & 1 == 1,
                bits: 0,
            });
            first.bits += differ.count_ones();
        }
        found
    }
}

/// The words of a range of bits, each with the bits of it that are in the range.
fn masks(range: Range<u32>) -> impl Iterator<Item = (usize, u64)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let (word, shift) = (at / WORD, at % WORD);
        let count = (WORD - shift).min(range.end - at);
        at += count;
        Some((word as usize, (!0 >> (WORD - count)) << shift))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_that_is_set_twice_is_told() {
        let mut bits = Bits::default();
        assert!(bits.set(60..70));
        assert!(!bits.set(69..71));
        assert_eq!((bits.count(), bits.end()), (11, 71));
        bits.clear(60..70);
        assert_eq!((bits.count(), bits.end()), (1, 71));
        assert_eq!(Bits::default().end(), 0);
    }

    #[test]
    fn differences_are_counted_within_the_size_alone() {
        let mut bits = Bits::default();
        bits.set(3..4);
        let mut disk = [0_u8; 16];
        disk[9..].fill(0xff);
        let difference = bits.difference(&disk, 72).unwrap();
        let expected = Difference {
            bit: 3,
            is_set: false,
            bits: 1,
        };
        assert_eq!(difference, expected);
        disk[0] = 8;
        assert_eq!(bits.difference(&disk, 72), None);
        disk[8] = 0x80;
        let difference = bits.difference(&disk, 72).unwrap();
        assert_eq!((difference.bit, difference.is_set), (71, true));
    }
}
