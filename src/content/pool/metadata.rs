//! A pool's metadata as it is on disk.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::libc::O_DIRECT;

use crate::aligned_buffer::AlignedBuffer;
use crate::thin::ReadBlocks;

/// Size of a metadata block in bytes.
const BLOCK: usize = 4096;

/// Number of bytes read at once: a writer puts related nodes side by side, and disks read a lot as fast as a little.
const PIECE: usize = 256 << 10;

/// Number of pieces that are kept: 64 MiB in total. A tree's nodes are visited in the order of their keys, not of their
/// positions.
const KEPT: usize = 256;

/// A metadata file or device. It is read past the page cache, which may hold contents from before device-mapper wrote;
/// the cache is used only if the file system supports nothing else.
#[derive(Debug)]
pub(super) struct Metadata {
    file: File,
    pieces: RefCell<Pieces>,
}

impl Metadata {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let direct = options.read(true).custom_flags(O_DIRECT).open(path);
        let file = direct.or_else(|error| match error.kind() {
            io::ErrorKind::InvalidInput => File::open(path),
            _ => Err(error),
        })?;
        Ok(Self {
            file,
            pieces: RefCell::new(Pieces {
                buffer: AlignedBuffer::new(PIECE),
                read: HashMap::new(),
                order: VecDeque::new(),
            }),
        })
    }
}

impl ReadBlocks for Metadata {
    fn read_block(&self, nr: u64, block: &mut [u8; BLOCK]) -> io::Result<()> {
        let per_piece = (PIECE / BLOCK) as u64;
        let mut pieces = self.pieces.borrow_mut();
        let at = usize::try_from(nr % per_piece).expect("below the blocks of a piece") * BLOCK;
        let bytes = match pieces.piece(&self.file, nr / per_piece) {
            Ok(piece) => piece.get(at..at + BLOCK),
            // One bad sector must not spoil the blocks around it.
            Err(_) => Some(pieces.read(&self.file, nr.checked_mul(BLOCK as u64), BLOCK)?),
        };
        let whole = bytes.filter(|bytes| bytes.len() == BLOCK);
        block.copy_from_slice(whole.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

struct Pieces {
    buffer: AlignedBuffer,
    read: HashMap<u64, Box<[u8]>>,
    /// The keys of `read`, oldest first.
    order: VecDeque<u64>,
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} pieces", self.order.len())
    }
}

impl Pieces {
    /// The bytes of a piece; fewer at the end of the device.
    fn piece(&mut self, file: &File, number: u64) -> io::Result<&[u8]> {
        if !self.read.contains_key(&number) {
            let bytes = self
                .read(file, number.checked_mul(PIECE as u64), PIECE)?
                .into();
            if self.order.len() == KEPT
                && let Some(oldest) = self.order.pop_front()
            {
                self.read.remove(&oldest);
            }
            self.order.push_back(number);
            self.read.insert(number, bytes);
        }
        Ok(&self.read[&number])
    }

    /// Up to `len` bytes from `offset` on, as many as there are.
    fn read(&mut self, file: &File, offset: Option<u64>, len: usize) -> io::Result<&[u8]> {
        let offset = offset.ok_or(io::ErrorKind::UnexpectedEof)?;
        let buffer = &mut self.buffer.as_mut_slice()[..len];
        let mut filled = 0;
        while filled < len {
            match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            // If a read ends within a sector, the rest cannot be requested.
            if !filled.is_multiple_of(512) {
                break;
            }
        }
        Ok(&buffer[..filled])
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn blocks_are_read_wherever_they_lie_and_none_behind_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata");
        let nr_blocks = 70 * 64 + 3;
        let bytes: Vec<u8> = (0..nr_blocks)
            .flat_map(|nr: u64| nr.to_le_bytes().repeat(BLOCK / 8))
            .chain([7; 100])
            .collect();
        fs::write(&path, bytes).unwrap();
        let source = Metadata::open(&path).unwrap();
        let mut block = [0; BLOCK];
        for nr in (0..nr_blocks)
            .rev()
            .step_by(61)
            .chain(0..nr_blocks)
            .step_by(13)
        {
            source.read_block(nr, &mut block).unwrap();
            assert_eq!(block[4088..], nr.to_le_bytes());
        }
        for nr in [nr_blocks, nr_blocks + 1, nr_blocks + 64, u64::MAX] {
            let error = source.read_block(nr, &mut block).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{nr}");
        }
        assert!(source.pieces.borrow().order.len() <= KEPT);
    }
}
