//! A persistent set of bits: a copy shares all pieces of 4096 bits that neither side changes.

use std::ops::Range;
use std::sync::Arc;

use imbl::Vector;

/// Bits in a word.
const WORD: u32 = 64;
/// Words in a piece. Small, because a layer that changes one bit pays for a piece.
const PIECE: usize = 64;

/// Bits of which all are clear at first. A piece that was never set takes no memory.
#[derive(Clone, Debug)]
pub(super) struct Bitmap {
    pieces: Vector<Option<Arc<[u64; PIECE]>>>,
}

impl Bitmap {
    /// Room for `bits` bits, rounded up to a piece.
    pub(super) fn new(bits: u32) -> Self {
        let pieces = (bits.div_ceil(WORD) as usize).div_ceil(PIECE);
        Self {
            pieces: std::iter::repeat_n(None, pieces).collect(),
        }
    }

    /// The 64 bits from bit `64 * at` on.
    pub(super) fn word(&self, at: u32) -> u64 {
        let at = at as usize;
        match self.pieces.get(at / PIECE) {
            Some(Some(piece)) => piece[at % PIECE],
            _ => 0,
        }
    }

    /// Whether a bit is set.
    #[cfg(test)]
    fn is_set(&self, bit: u32) -> bool {
        self.word(bit / WORD) >> (bit % WORD) & 1 == 1
    }

    /// Sets bits that are clear.
    pub(super) fn set(&mut self, bits: Range<u32>) {
        self.change(bits, |word, mask| {
            debug_assert_eq!(*word & mask, 0, "only free ones are taken");
            *word |= mask;
        });
    }

    /// Clears bits that are set.
    pub(super) fn clear(&mut self, bits: Range<u32>) {
        self.change(bits, |word, mask| {
            debug_assert_eq!(*word & mask, mask, "only taken ones are freed");
            *word &= !mask;
        });
    }

    /// The first clear bit of a range.
    pub(super) fn first_clear(&self, range: Range<u32>) -> Option<u32> {
        let mut at = range.start;
        while at < range.end {
            let free = !self.word(at / WORD) >> (at % WORD);
            if free != 0 {
                let bit = at + free.trailing_zeros();
                return (bit < range.end).then_some(bit);
            }
            at = (at / WORD + 1) * WORD;
        }
        None
    }

    /// Copies the bits from bit `64 * first_word` on, least significant first, until `out` is full.
    pub(super) fn copy_bytes(&self, first_word: u32, out: &mut [u8]) {
        for (at, bytes) in (first_word..).zip(out.chunks_mut(8)) {
            bytes.copy_from_slice(&self.word(at).to_le_bytes()[..bytes.len()]);
        }
    }

    fn change(&mut self, bits: Range<u32>, apply: impl Fn(&mut u64, u64)) {
        let mut at = bits.start;
        while at < bits.end {
            let (word, shift) = ((at / WORD) as usize, at % WORD);
            let count = (WORD - shift).min(bits.end - at);
            let mask = (!0 >> (WORD - count)) << shift;
            let piece = self
                .pieces
                .get_mut(word / PIECE)
                .expect("the bit is inside")
                .get_or_insert_with(|| Arc::new([0; PIECE]));
            apply(&mut Arc::make_mut(piece)[word % PIECE], mask);
            at += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_across_pieces_is_set_and_cleared() {
        let mut bits = Bitmap::new(10_000);
        let before = bits.clone();
        bits.set(4000..8300);
        assert!(!bits.is_set(3999) && bits.is_set(4000) && bits.is_set(8299) && !bits.is_set(8300));
        assert!((0..10_000).all(|bit| !before.is_set(bit)));
        bits.clear(4001..8299);
        assert_eq!((0..10_000).filter(|&bit| bits.is_set(bit)).count(), 2);
    }

    #[test]
    fn the_first_clear_bit_stays_inside_the_range() {
        let mut bits = Bitmap::new(256);
        bits.set(0..130);
        assert_eq!(bits.first_clear(5..256), Some(130));
        assert_eq!(bits.first_clear(5..130), None);
        assert_eq!(bits.first_clear(200..256), Some(200));
    }

    #[test]
    fn bytes_come_least_significant_bit_first() {
        let mut bits = Bitmap::new(128);
        bits.set(64..65);
        bits.set(73..74);
        let mut out = [0; 4];
        bits.copy_bytes(1, &mut out);
        assert_eq!(out, [1, 2, 0, 0]);
    }
}
