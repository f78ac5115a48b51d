//! The hashes by which an indexed directory orders its names. Half-MD4 is what is written; the others are read.
//!
//! Source: linux v6.6 `fs/ext4/hash.c`. The superblock's flag says that name bytes count as signed, on every machine.

/// The MD4 start values, used when the file system's seed is all zero.
const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
/// Reserved as the end of a directory for readers that keep a position.
const END_OF_DIRECTORY: u32 = 0xffff_fffe;

/// The hash of `name`, its lowest bit clear: that bit is the index's mark of a continued value.
pub(super) fn half_md4(name: &[u8], seed: &[u32; 4]) -> u32 {
    HashKind::HALF_MD4.hash(name, seed)
}

/// A way to hash names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HashKind {
    method: Method,
    /// Bytes count as unsigned.
    unsigned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Legacy,
    HalfMd4,
    Tea,
}

impl HashKind {
    const HALF_MD4: Self = Self {
        method: Method::HalfMd4,
        unsigned: false,
    };

    /// The one with this number in a directory's root.
    pub(super) fn new(version: u8, unsigned: bool) -> Option<Self> {
        let method = match version {
            0 => Method::Legacy,
            1 => Method::HalfMd4,
            2 => Method::Tea,
            _ => return None,
        };
        Some(Self { method, unsigned })
    }

    /// The hash of a name of at most 255 bytes.
    pub(super) fn hash(self, name: &[u8], seed: &[u32; 4]) -> u32 {
        let mut state = if *seed == [0; 4] { START } else { *seed };
        let hash = match self.method {
            Method::Legacy => legacy(name, self.unsigned),
            Method::HalfMd4 => {
                for at in (0..name.len()).step_by(32) {
                    transform(&mut state, &words(&name[at..], self.unsigned));
                }
                state[1]
            }
            Method::Tea => {
                for at in (0..name.len()).step_by(16) {
                    tea(&mut state, &words(&name[at..], self.unsigned));
                }
                state[0]
            }
        };
        match hash & !1 {
            END_OF_DIRECTORY => END_OF_DIRECTORY - 2,
            hash => hash,
        }
    }
}

/// The next bytes as `N` words, padded with the number of bytes left.
fn words<const N: usize>(rest: &[u8], unsigned: bool) -> [u32; N] {
    let left = u32::try_from(rest.len()).expect("a name has at most 255 bytes");
    let pad = left.wrapping_mul(0x0101_0101);
    let mut words = [pad; N];
    for (word, bytes) in words.iter_mut().zip(rest.chunks(4)) {
        for &byte in bytes {
            *word = widened(byte, unsigned).wrapping_add(*word << 8);
        }
    }
    words
}

fn widened(byte: u8, unsigned: bool) -> u32 {
    if unsigned {
        byte.into()
    } else {
        i32::from(byte.cast_signed()).cast_unsigned()
    }
}

/// The hash of the first indexed directories.
fn legacy(name: &[u8], unsigned: bool) -> u32 {
    let (mut hash, mut before) = (0x12a3_fe2d_u32, 0x37ab_e8f9_u32);
    for &byte in name {
        let mixed = hash ^ widened(byte, unsigned).wrapping_mul(7_152_373);
        let mut next = before.wrapping_add(mixed);
        if next & 0x8000_0000 != 0 {
            next = next.wrapping_sub(0x7fff_ffff);
        }
        (before, hash) = (hash, next);
    }
    hash << 1
}

/// Sixteen rounds of the tiny encryption algorithm.
fn tea(state: &mut [u32; 4], words: &[u32; 4]) {
    let ([mut low, mut high, ..], [a, b, c, d], mut sum) = (*state, *words, 0_u32);
    let mix = |other: u32, sum: u32, left: u32, right: u32| {
        (other << 4).wrapping_add(left) ^ other.wrapping_add(sum) ^ (other >> 5).wrapping_add(right)
    };
    for _ in 0..16 {
        sum = sum.wrapping_add(0x9e37_79b9);
        low = low.wrapping_add(mix(high, sum, a, b));
        high = high.wrapping_add(mix(low, sum, c, d));
    }
    state[0] = state[0].wrapping_add(low);
    state[1] = state[1].wrapping_add(high);
}

/// One block of the three-round transform.
fn transform(state: &mut [u32; 4], words: &[u32; 8]) {
    let [mut a, mut b, mut c, mut d] = *state;
    let mut round =
        |mix: fn(u32, u32, u32) -> u32, plus: u32, order: [usize; 8], turn: [u32; 4]| {
            for half in order.chunks_exact(4) {
                let word = |at: usize| words[half[at]].wrapping_add(plus);
                a = step(a, mix(b, c, d), word(0), turn[0]);
                d = step(d, mix(a, b, c), word(1), turn[1]);
                c = step(c, mix(d, a, b), word(2), turn[2]);
                b = step(b, mix(c, d, a), word(3), turn[3]);
            }
        };
    round(select, 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]);
    round(
        majority,
        0x5a82_7999,
        [1, 3, 5, 7, 0, 2, 4, 6],
        [3, 5, 9, 13],
    );
    round(
        parity,
        0x6ed9_eba1,
        [3, 7, 2, 6, 1, 5, 0, 4],
        [3, 9, 11, 15],
    );
    for (word, add) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(add);
    }
}

fn step(value: u32, mixed: u32, word: u32, turn: u32) -> u32 {
    value
        .wrapping_add(mixed)
        .wrapping_add(word)
        .rotate_left(turn)
}

fn select(x: u32, y: u32, z: u32) -> u32 {
    z ^ (x & (y ^ z))
}

fn majority(x: u32, y: u32, z: u32) -> u32 {
    (x & y).wrapping_add((x ^ y) & z)
}

fn parity(x: u32, y: u32, z: u32) -> u32 {
    x ^ y ^ z
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u32; 4] = [0x1234_5678, 0x9abc_def0, 0xdead_beef, 0x0bad_cafe];

    #[test]
    fn values_are_those_of_debugfs_dx_hash() {
        // debugfs 1.47.0, `dx_hash -h half_md4`, first with `-s 78563412-f0de-bc9a-efbe-addefecaad0b`, then without.
        let long = [b'n'; 255];
        let known: [(&[u8], u32, u32); 8] = [
            (b"a", 0xd388_262c, 0xd5fa_7d7a),
            (b"abc", 0x5b28_dd42, 0xd196_a868),
            (b"hello world", 0x5390_a668, 0x36f1_5d9e),
            (
                b"a name of thirty-two bytes total",
                0xb88b_c102,
                0x666b_525e,
            ),
            (
                b"a name of thirty-three bytes totals",
                0xe8ec_aa92,
                0x2793_5d86,
            ),
            (&long, 0x8d78_f4da, 0xc0f8_fde8),
            (b"caf\xc3\xa9", 0x4625_14ca, 0xfb9c_5e5c),
            (b"\xff\xfe\x80", 0x379f_5544, 0x45b5_f8b0),
        ];
        for (name, seeded, unseeded) in known {
            assert_eq!(half_md4(name, &SEED), seeded);
            assert_eq!(half_md4(name, &[0; 4]), unseeded);
        }
    }
}
