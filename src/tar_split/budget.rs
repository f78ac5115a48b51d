//! How much a tar-split may come to.
//!
//! A gzip stream of a few kilobytes can hold gigabytes. What Docker records compresses far less well than that, so more is
//! taken for what it is: work that nothing justifies.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::Error;

/// Bytes that any record may have, compressed as they are.
const FREE: u64 = 32 * 1024 * 1024;
/// Bytes that each compressed byte may come to beyond. Real records: 8 to 30; gzip can do 1032.
const RATIO: u64 = 100;
/// Lines that any record may have.
const FREE_LINES: u64 = 4096;
/// Bytes that the lines beyond must have on average. A header alone takes 683 in base64.
const LINE: u64 = 128;

/// What was read so far.
#[derive(Debug, Default)]
pub(super) struct Budget {
    compressed: Arc<AtomicU64>,
    bytes: u64,
}

impl Budget {
    /// Takes a line of so many bytes, the `number`th.
    pub(super) fn line(&mut self, number: u64, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes as u64;
        let unjustified = |what| Err(Error::Unjustified { line: number, what });
        let compressed = self.compressed.load(Ordering::Relaxed);
        if self.bytes > FREE + compressed.saturating_mul(RATIO) {
            return unjustified("more bytes than the compressed file can be a record of");
        }
        if number > FREE_LINES + self.bytes / LINE {
            return unjustified("more lines than so many bytes of a record have");
        }
        Ok(())
    }
}

/// The compressed file, whose bytes are counted as they are read.
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
