//! CRC-64 as tar-split records it: polynomial x⁶⁴ + x⁴ + x³ + x + 1, reflected, initial value and final XOR all ones.
//!
//! The catalogue calls it CRC-64/GO-ISO; it is `crc64.ISO` of Go's `hash/crc64`.
//! Source: vbatts/tar-split v0.12.1 tar/asm/disassemble.go, `storage.NewBufferFileGetPutter`.

use crc_fast::{CrcAlgorithm, Digest};

const ALGORITHM: CrcAlgorithm = CrcAlgorithm::Crc64GoIso;

/// The checksum of no bytes.
pub const EMPTY: u64 = 0;

/// A checksum of bytes that arrive piece by piece.
#[derive(Clone, Copy, Debug)]
pub struct Crc64(Digest);

impl Crc64 {
    /// The checksum of no bytes so far.
    pub fn new() -> Self {
        Self(Digest::new(ALGORITHM))
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of the bytes so far.
    pub fn value(&self) -> u64 {
        self.0.finalize()
    }
}

impl Default for Crc64 {
    fn default() -> Self {
        Self::new()
    }
}

/// The checksum of `bytes`.
pub fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(ALGORITHM, bytes)
}

/// The checksum of two consecutive pieces, from their own checksums and the length of the second in bytes.
///
/// Takes about a microsecond. The function of `crc_fast` squares matrices, which is too slow for something done for
/// each file.
pub const fn combine(first: u64, second: u64, second_bytes: u64) -> u64 {
    // A shortcut for an empty first piece, which precedes the only piece of most files; its product is zero.
    if first == EMPTY {
        return second;
    }
    let mut shifted = first;
    let mut bit = 0;
    while bit < 64 {
        if second_bytes >> bit & 1 == 1 {
            shifted = multiply(shifted, SHIFTS[bit]);
        }
        bit += 1;
    }
    shifted ^ second
}

/// The checksum of that many zero bytes.
pub const fn zeros(bytes: u64) -> u64 {
    // The register begins with all ones, and the final XOR is all ones.
    combine(!0, !0, bytes)
}

/// The reflected polynomial without x⁶⁴: the highest bit is x⁰.
const POLYNOMIAL: u64 = 0xd800_0000_0000_0000;

/// Element *k* is x to the power of 8·2ᵏ: the factor by which 2ᵏ more bytes multiply a checksum.
const SHIFTS: [u64; 64] = {
    let mut shifts = [1 << (63 - 8); 64];
    let mut at = 1;
    while at < 64 {
        shifts[at] = multiply(shifts[at - 1], shifts[at - 1]);
        at += 1;
    }
    shifts
};

/// The product of two reflected polynomials over GF(2), reduced.
const fn multiply(a: u64, b: u64) -> u64 {
    let (mut product, mut shifted) = (0, b);
    let mut bit = 64;
    while bit > 0 {
        bit -= 1;
        product ^= shifted & (a >> bit & 1).wrapping_neg();
        shifted = (shifted >> 1) ^ (POLYNOMIAL & (shifted & 1).wrapping_neg());
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition, bit by bit.
    fn plain(bytes: &[u8]) -> u64 {
        !bytes.iter().fold(!0, |crc: u64, &byte| {
            (0..8).fold(crc ^ u64::from(byte), |crc, _| {
                (crc >> 1) ^ ((crc & 1) * POLYNOMIAL)
            })
        })
    }

    fn bytes(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn known_checksums_are_met() {
        assert_eq!(crc64(b""), EMPTY);
        assert_eq!(crc64(b"123456789"), 0xb909_56c7_75a4_1001); // the catalogue's check value
        assert_eq!(crc64(b"b\n"), 0x6146_f000_0000_0000); // from a tar-split.json.gz
    }

    #[test]
    fn every_length_agrees_with_the_definition() {
        let bytes = bytes(1500);
        for length in 0..bytes.len() {
            assert_eq!(crc64(&bytes[..length]), plain(&bytes[..length]), "{length}");
        }
    }

    #[test]
    fn zeros_need_no_bytes() {
        for length in [0, 1, 511, 4096, 70_000] {
            assert_eq!(zeros(length as u64), plain(&vec![0; length]), "{length}");
        }
    }

    #[test]
    fn any_length_is_combined() {
        for bytes in [0, 1, 4096, 1 << 40, u64::MAX] {
            let expected =
                crc_fast::checksum_combine(ALGORITHM, 0x1234_5678_9abc_def0, 0xff, bytes);
            assert_eq!(
                combine(0x1234_5678_9abc_def0, 0xff, bytes),
                expected,
                "{bytes}"
            );
        }
    }

    #[test]
    fn pieces_give_the_checksum_of_the_whole() {
        let bytes = bytes(10_000);
        let whole = plain(&bytes);
        for at in [0, 1, 7, 8, 255, 256, 4096, 9_999, 10_000] {
            let (first, second) = bytes.split_at(at);
            let mut crc = Crc64::new();
            crc.update(first);
            crc.update(second);
            assert_eq!(crc.value(), whole, "cut at {at}");
            let combined = combine(crc64(first), crc64(second), second.len() as u64);
            assert_eq!(combined, whole, "cut at {at}");
        }
    }
}
