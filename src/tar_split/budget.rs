//! Limits the size that a tar-split may expand to.
//!
//! A gzip stream of a few kilobytes can hold gigabytes. What Docker records compresses far less well than that, so
//! anything beyond the limits is rejected as work that nothing justifies.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::Error;

/// The number of bytes that any record may have, however well it is compressed.
const FREE: u64 = 32 * 1024 * 1024;
/// The number of further bytes allowed for each compressed byte. Real records have 8 to 30; gzip can reach 1032.
const RATIO: u64 = 100;
/// The number of lines that any record may have.
const FREE_LINES: u64 = 4096;
/// The number of bytes that further lines must have on average. A header alone needs 683 in base64.
const LINE: u64 = 128;

/// The amounts that were read so far.
#[derive(Debug, Default)]
pub(super) struct Budget {
    compressed: Arc<AtomicU64>,
    bytes: u64,
}

impl Budget {
    /// Counts a line with this number of bytes, the `number`th.
    pub(super) fn line(&mut self, number: u64, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes as u64;
        let unjustified = |what| Err(Error::Unjustified { line: number, what });
        let compressed = self.compressed.load(Ordering::Relaxed);
        if self.bytes > FREE + compressed.saturating_mul(RATIO) {
            return unjustified("too many bytes for the size of the compressed file");
        }
        if number > FREE_LINES + self.bytes / LINE {
            return unjustified("too many lines for the size of the record");
        }
        Ok(())
    }
}

/// The compressed file. Its bytes are counted as they are read.
#[derive(Debug)]
pub(super) struct CountingReader<R> {
    input: R,
    bytes: Arc<AtomicU64>,
}

impl<R> CountingReader<R> {
    pub(super) fn new(input: R, budget: &Budget) -> Self {
        Self {
            input,
            bytes: budget.compressed.clone(),
        }
    }
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
