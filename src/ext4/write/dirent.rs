//! Directory entries: packed in memory, and as they stand in a block.

use zerocopy::IntoBytes;

use crate::ext4::checksum::InodeSummer;
use crate::ext4::format::{BLOCK, DirEntryHead, DirTail};
use crate::ext4::ino::Ino;

/// Longest name.
pub(super) const MAX_NAME: usize = 255;
/// Bytes of a checksum at a block's end.
const TAIL: usize = size_of::<DirTail>();
/// `det_reserved_ft`: what makes the checksum look like an unused entry.
const TAIL_TYPE: u8 = 0xde;
/// Bytes before a name in a packed entry.
const PACKED_HEAD: usize = 6;
const HEAD: usize = size_of::<DirEntryHead>();

/// An entry's type byte (feature `filetype`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FileType {
    Regular = 1,
    Directory = 2,
    CharDevice = 3,
    BlockDevice = 4,
    Fifo = 5,
    Socket = 6,
    Symlink = 7,
}

impl FileType {
    /// The type's part of `i_mode`.
    pub(super) fn mode(self) -> u16 {
        match self {
            Self::Fifo => 0o010_000,
            Self::CharDevice => 0o020_000,
            Self::Directory => 0o040_000,
            Self::BlockDevice => 0o060_000,
            Self::Regular => 0o100_000,
            Self::Symlink => 0o120_000,
            Self::Socket => 0o140_000,
        }
    }
}

/// A name and what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) ino: Ino,
    /// The type byte.
    pub(super) file_type: u8,
}

impl Entry<'_> {
    pub(super) fn is_directory(&self) -> bool {
        self.file_type == FileType::Directory as u8
    }

    /// Bytes it takes in a block.
    pub(super) fn block_bytes(&self) -> usize {
        block_bytes(self.name.len())
    }

    /// Appends its packed form: number, type, name's length, name.
    pub(super) fn pack(&self, out: &mut Vec<u8>) {
        let length = u8::try_from(self.name.len()).expect("names were checked");
        out.extend_from_slice(&self.ino.0.to_le_bytes());
        out.extend_from_slice(&[self.file_type, length]);
        out.extend_from_slice(self.name);
    }

    /// Bytes of the packed form.
    pub(super) fn packed_bytes(&self) -> usize {
        PACKED_HEAD + self.name.len()
    }
}

/// Bytes that an entry with a name of this length takes in a block.
fn block_bytes(name: usize) -> usize {
    HEAD + name.next_multiple_of(4)
}

/// The entries of a packed list.
#[derive(Clone, Debug)]
pub(super) struct Entries<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let (&[a, b, c, d, file_type, length], rest) = self.0.split_first_chunk()?;
        let (name, rest) = rest.split_at(usize::from(length));
        self.0 = rest;
        Some(Entry {
            name,
            ino: Ino(u32::from_le_bytes([a, b, c, d])),
            file_type,
        })
    }
}

/// A packed list's entry of that name, and where its packed form starts.
pub(super) fn find<'a>(packed: &'a [u8], name: &[u8]) -> Option<(usize, Entry<'a>)> {
    let mut start = 0;
    for entry in Entries(packed) {
        if entry.name == name {
            return Some((start, entry));
        }
        start += entry.packed_bytes();
    }
    None
}

/// Bytes that a packed list takes in a block.
pub(super) fn total_bytes(packed: &[u8]) -> usize {
    Entries(packed).map(|entry| entry.block_bytes()).sum()
}

/// Bytes of a block that entries may use.
pub(super) fn room(has_checksum: bool) -> usize {
    if has_checksum { BLOCK - TAIL } else { BLOCK }
}

/// Writes entries one behind the other, the last one reaching to the end, and the checksum where there is one.
pub(super) fn encode_block<'a>(
    entries: impl Iterator<Item = Entry<'a>>,
    summer: &InodeSummer,
    out: &mut [u8],
) {
    let end = room(summer.is_full());
    let (mut at, mut last) = (0, None);
    for entry in entries {
        let bytes = entry.block_bytes();
        encode_entry(&entry, bytes, &mut out[at..]);
        last = Some(at);
        at += bytes;
    }
    match last {
        // A block without entries is one unused entry.
        None => set_rec_len(out, 0, end),
        Some(last) => set_rec_len(out, last, end - last),
    }
    if summer.is_full() {
        let (covered, tail) = out.split_at_mut(end);
        let record = DirTail {
            det_reserved_zero1: 0.into(),
            det_rec_len: u16::try_from(TAIL).expect("12").into(),
            det_reserved_zero2: 0,
            det_reserved_ft: TAIL_TYPE,
            det_checksum: summer.sum(&[covered]).into(),
        };
        tail.copy_from_slice(record.as_bytes());
    }
}

/// Writes one entry that reaches `rec_len` bytes far.
pub(super) fn encode_entry(entry: &Entry<'_>, rec_len: usize, out: &mut [u8]) {
    let head = DirEntryHead {
        inode: entry.ino.0.into(),
        rec_len: u16::try_from(rec_len).expect("at most a block").into(),
        name_len: u8::try_from(entry.name.len()).expect("names were checked"),
        file_type: entry.file_type,
    };
    out[..HEAD].copy_from_slice(head.as_bytes());
    out[HEAD..HEAD + entry.name.len()].copy_from_slice(entry.name);
}

fn set_rec_len(out: &mut [u8], entry: usize, rec_len: usize) {
    let rec_len = u16::try_from(rec_len).expect("at most a block");
    out[entry + 4..entry + 6].copy_from_slice(&rec_len.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_entries_come_back() {
        let mut packed = Vec::new();
        let entries =
            [(&b"a"[..], 12, 1), (b"\xff\xfe", 70_000, 7)].map(|(name, ino, file_type)| Entry {
                name,
                ino: Ino(ino),
                file_type,
            });
        for entry in &entries {
            entry.pack(&mut packed);
        }
        assert_eq!(Entries(&packed).collect::<Vec<_>>(), entries);
        assert_eq!(find(&packed, b"\xff\xfe"), Some((7, entries[1])));
        assert_eq!(find(&packed, b"b"), None);
        assert_eq!(total_bytes(&packed), 24);
    }
}
