//! A device in memory of which only some parts were ever written.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

/// The bytes of a device in chunks of one size. What is not there reads as zeros.
#[derive(Clone, Debug)]
pub(super) struct Sparse {
    chunks: BTreeMap<u64, Box<[u8]>>,
    chunk: usize,
    bytes: u64,
}

impl Sparse {
    /// An empty device of this size.
    pub(super) fn new(chunk: usize, bytes: u64) -> Self {
        Self {
            chunks: BTreeMap::new(),
            chunk,
            bytes,
        }
    }

    /// A device with these bytes; chunks of zeros are left out.
    pub(super) fn of(chunk: usize, bytes: &[u8]) -> Self {
        let mut device = Self::new(chunk, bytes.len() as u64);
        device.write(0, bytes);
        device
            .chunks
            .retain(|_, chunk| chunk.iter().any(|&byte| byte != 0));
        device
    }

    /// The numbers of the chunks that are there.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.chunks.keys().copied().collect()
    }

    /// Bytes of a chunk.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk
    }

    /// Bytes that are there.
    pub(super) fn present(&self) -> u64 {
        self.chunks.len() as u64 * self.chunk as u64
    }

    /// A chunk's bytes, if it is there.
    pub(super) fn get(&self, number: u64) -> Option<&[u8]> {
        self.chunks.get(&number).map(|chunk| &**chunk)
    }

    /// A chunk's bytes, to change them; `None` beyond the end.
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut [u8]> {
        let size = self.chunk as u64;
        if number.checked_mul(size)?.checked_add(size)? > self.bytes {
            return None;
        }
        let empty = || vec![0; self.chunk].into_boxed_slice();
        Some(self.chunks.entry(number).or_insert_with(empty))
    }

    /// Writes bytes that lie within the device.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let size = self.chunk as u64;
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let within = usize::try_from(at % size).expect("less than a chunk");
            let length = (self.chunk - within).min(bytes.len() - done);
            let Some(chunk) = self.get_mut(at / size) else {
                return;
            };
            chunk[within..within + length].copy_from_slice(&bytes[done..done + length]);
            done += length;
        }
    }

    /// Fills `buffer` with the bytes from `offset` on.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = self.chunk as u64;
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let within = usize::try_from(at % size).expect("less than a chunk");
            let length = (self.chunk - within).min(buffer.len() - done);
            let into = &mut buffer[done..done + length];
            match self.get(at / size) {
                Some(chunk) => into.copy_from_slice(&chunk[within..within + length]),
                None => into.fill(0),
            }
            done += length;
        }
        Ok(())
    }

    /// Where the next bytes are that are there.
    pub(super) fn next(&self, offset: u64) -> Option<u64> {
        let size = self.chunk as u64;
        let (&number, _) = self.chunks.range(offset / size..).next()?;
        Some((number * size).max(offset))
    }

    /// The bytes of a chunk on the device.
    pub(super) fn range(&self, number: u64) -> Range<u64> {
        let size = self.chunk as u64;
        number * size..(number + 1) * size
    }
}
