//! Numbers metadata blocks as they come and hands them on in large pieces.

use std::io;

use crate::thin::block_kind::BlockKind;
use crate::thin::checksum::seal;
use crate::thin::error::Error;
use crate::thin::format::{BLOCK_SIZE, Block};

/// Bytes handed on at once; 1 MiB keeps a disk busy and costs little memory.
const PIECE: usize = 256 * BLOCK_SIZE;

/// Receives consecutive blocks: the first one's number, and their bytes.
pub(super) type Sink<'s> = dyn FnMut(u64, &[u8]) -> io::Result<()> + 's;

/// Writes blocks one after the other, from block 1 on.
pub(super) struct BlockWriter<'s> {
    sink: &'s mut Sink<'s>,
    pieces: Vec<u8>,
    first: u64,
    next: u64,
}

impl<'s> BlockWriter<'s> {
    pub(super) fn new(sink: &'s mut Sink<'s>) -> Self {
        Self {
            sink,
            pieces: Vec::with_capacity(PIECE),
            first: 1,
            next: 1,
        }
    }

    /// Number of the block that comes next.
    pub(super) fn next_block(&self) -> u64 {
        self.next
    }

    /// Adds a block, which `fill` gets zeroed; returns its number.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub(super) fn put(
        &mut self,
        kind: BlockKind,
        fill: impl FnOnce(&mut Block),
    ) -> Result<u64, Error> {
        if self.pieces.len() == PIECE {
            self.flush()?;
        }
        let nr = self.next;
        let mut block = [0; BLOCK_SIZE];
        fill(&mut block);
        seal(kind, nr, &mut block);
        self.pieces.extend_from_slice(&block);
        self.next += 1;
        Ok(nr)
    }

    /// Hands on what is left.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        if self.pieces.is_empty() {
            return Ok(());
        }
        (self.sink)(self.first, &self.pieces).map_err(|source| Error::Write {
            block: self.first,
            source,
        })?;
        self.pieces.clear();
        self.first = self.next;
        Ok(())
    }
}
