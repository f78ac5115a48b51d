//! Changes to a device, decoded from any bytes.
//!
//! A fuzzer that had to invent file systems would never come far. It changes good ones instead: an input is a list of records of
//! one length, each of which changes a chunk of the device, so most inputs of it are almost good.

use std::collections::BTreeSet;

use super::sparse::Sparse;

/// Bytes of a record: what to do, the chunk (2), the offset in it (2), a value (8).
const RECORD: usize = 13;

/// The number of records that count, so that a long input is not mostly damage.
const MAX_RECORDS: usize = 40;

/// One change.
#[derive(Clone, Copy, Debug)]
struct Change {
    what: u8,
    chunk: u64,
    offset: usize,
    value: u64,
}

impl Change {
    fn decode(record: &[u8], device: &Sparse, there: &[u64]) -> Self {
        let number = |bytes: &[u8]| {
            let digits = bytes.iter().rev();
            digits.fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte))
        };
        let nth = number(&record[1..3]);
        let offset = number(&record[3..5]);
        Self {
            what: record[0],
            chunk: pick(there, nth),
            offset: usize::try_from(offset).expect("two bytes") % device.chunk_bytes(),
            value: number(&record[5..]),
        }
    }

    /// Makes the change; returns the chunk that it changed.
    fn make(self, device: &mut Sparse, there: &[u64]) -> u64 {
        let other = pick(there, self.value);
        let copied = device.get(other).map(<[u8]>::to_vec);
        let bytes = self.value.to_le_bytes();
        // The last one puts a chunk where none was.
        let number = if self.what % 8 == 7 {
            self.value % 4096
        } else {
            self.chunk
        };
        let original = device.get(self.chunk).map(<[u8]>::to_vec);
        let Some(chunk) = device.get_mut(number) else {
            return number;
        };
        let rest = &mut chunk[self.offset..];
        match self.what % 8 {
            width @ 0..=3 => {
                let length = rest.len().min(1 << width);
                rest[..length].copy_from_slice(&bytes[..length]);
            }
            4 => chunk.copy_from_slice(&copied.unwrap_or_else(|| vec![0; chunk.len()])),
            5 => rest.fill(bytes[0]),
            6 => rest[0] ^= 1 << (bytes[0] % 8),
            _ => chunk.copy_from_slice(&original.unwrap_or_else(|| vec![0; chunk.len()])),
        }
        number
    }
}

fn pick(there: &[u64], nth: u64) -> u64 {
    let length = there.len().max(1) as u64;
    let nth = usize::try_from(nth % length).expect("less than the list is long");
    there.get(nth).copied().unwrap_or(0)
}

/// Makes all changes of an input; returns the chunks that they changed.
pub(super) fn apply(input: &[u8], device: &mut Sparse) -> BTreeSet<u64> {
    let there = device.numbers();
    let records = input.chunks_exact(RECORD).take(MAX_RECORDS);
    records
        .map(|record| Change::decode(record, device, &there).make(device, &there))
        .collect()
}
