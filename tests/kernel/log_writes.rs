//! The kernel's record of all that was written to a block device, and any moment of it played back.
//!
//! Source of the format: linux v6.6 `drivers/md/dm-log-writes.c`, `struct log_write_super`, `struct log_write_entry`.

use std::{fs::File, os::unix::fs::FileExt, path::Path};

use anyhow::{Context, Result, ensure};

/// `WRITE_LOG_MAGIC`.
const MAGIC: u64 = 0x006a_7366_7773_6872;
/// `LOG_FLUSH_FLAG`: what was written before is durable when this is.
const FLUSH: u64 = 1;
/// `LOG_DISCARD_FLAG`.
const DISCARD: u64 = 4;
/// `LOG_MARK_FLAG`.
const MARK: u64 = 8;
/// In which an entry counts, and its header takes.
const SECTOR: u64 = 512;

/// What was written to a device, in the order in which it arrived there.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    entries: Vec<Entry>,
}

/// One write.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Bytes from the beginning of the device.
    offset: u64,
    length: u64,
    flags: u64,
    /// Where the log has the data.
    data: u64,
}

impl Log {
    /// Reads the log of a target that is closed.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let head = words(&file, 0)?;
        ensure!(head[0] == MAGIC && head[1] == 1, "no log: {head:x?}");
        let sector = head[3] & 0xffff_ffff;
        ensure!(sector == SECTOR, "a log with sectors of {sector} bytes");
        let mut at = SECTOR;
        let mut entries = Vec::new();
        for _ in 0..head[2] {
            let [sector, sectors, flags, _] = words(&file, at)?;
            let entry = Entry {
                offset: sector * SECTOR,
                length: sectors * SECTOR,
                flags,
                data: at + SECTOR,
            };
            at = entry.data;
            if flags & (DISCARD | MARK) == 0 {
                at += entry.length;
            }
            entries.push(entry);
        }
        Ok(Self { file, entries })
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries before which all earlier ones are durable, and the end.
    pub(crate) fn flushes(&self) -> Vec<usize> {
        let flushes = self.entries.iter().enumerate();
        let flushes = flushes.filter(|(_, entry)| entry.flags & FLUSH != 0);
        let mut flushes: Vec<_> = flushes.map(|(number, _)| number).collect();
        flushes.push(self.entries.len());
        flushes
    }

    /// The first entry after the mark, if there is one.
    pub(crate) fn mark(&self) -> Option<usize> {
        let marks = |entry: &Entry| entry.flags & MARK != 0;
        self.entries.iter().position(marks).map(|number| number + 1)
    }

    /// Writes an entry's data to an image of the device.
    pub(crate) fn apply(&self, number: usize, image: &File) -> Result<()> {
        let entry = &self.entries[number];
        if entry.flags & MARK != 0 {
            return Ok(());
        }
        let mut data = vec![0; usize::try_from(entry.length)?];
        if entry.flags & DISCARD == 0 {
            self.file.read_exact_at(&mut data, entry.data)?;
        }
        Ok(image.write_all_at(&data, entry.offset)?)
    }
}

fn words(file: &File, at: u64) -> Result<[u64; 4]> {
    let mut bytes = [0; 32];
    file.read_exact_at(&mut bytes, at).context("a torn log")?;
    let word = |n: usize| u64::from_le_bytes(bytes[8 * n..][..8].try_into().expect("eight of 32"));
    Ok([word(0), word(1), word(2), word(3)])
}
