//! One block of a directory: a list of names, or a node of the index.

use std::sync::Arc;

use zerocopy::FromBytes;

use super::fault::{Defect, DirectoryFault, IndexFault};
use super::inode::{FLAG_INDEX, InodeFields, Type};
use super::layout::Geometry;
use super::sums::InodeSums;
use crate::ext4::format::{DirEntryHead, DirTail, DxCountLimit, DxEntry, DxRootInfo};
use crate::ext4::hash::HashKind;
use crate::ext4::ino::Ino;

const HEAD: usize = size_of::<DirEntryHead>();
const TAIL: usize = size_of::<DirTail>();
/// `det_reserved_ft`.
const TAIL_TYPE: u8 = 0xde;
/// Bytes of the shortest entry: those of `.` and `..`.
const SHORTEST: usize = 12;
/// Where the index starts in the root and in nodes.
const ROOT_INDEX: usize = 32;
const NODE_INDEX: usize = 8;
const DX_ENTRY: usize = size_of::<DxEntry>();
/// Longest name.
pub(super) const MAX_NAME: usize = 255;
/// What is left of a block's number in the index: the upper bits are kept for other use.
const BLOCK_MASK: u32 = 0x0fff_ffff;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    /// The directory's number, most significant byte first, and the name behind it.
    pub(super) key: Arc<[u8]>,
    pub(super) ino: Ino,
    pub(super) file_type: u8,
}

impl Name {
    pub(super) fn name(&self) -> &[u8] {
        &self.key[4..]
    }
}

/// An entry of the index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pointer {
    pub(super) hash: u32,
    pub(super) block: u32,
}

/// What the root tells about the index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Root {
    pub(super) hash_version: u8,
    pub(super) levels: u8,
}

/// What a block holds, and all that is wrong with it.
#[derive(Debug, Default)]
pub(super) struct DirBlock {
    pub(super) names: Vec<Name>,
    pub(super) faults: Vec<DirectoryFault>,
    /// As whose part it was read.
    pub(super) is_indexed: bool,
    pub(super) is_node: bool,
    pub(super) root: Option<Root>,
    pub(super) pointers: Vec<Pointer>,
    /// The lowest and the highest hash of its names.
    pub(super) hashes: Option<(u32, u32)>,
    /// Where `..` points.
    pub(super) parent: Option<Ino>,
    pub(super) subdirectories: u32,
}

/// What a directory's blocks are read by.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    pub(super) geometry: &'a Geometry,
    ino: Ino,
    pub(super) sums: InodeSums,
    pub(super) is_indexed: bool,
    /// Known once the root is read.
    pub(super) hash: Option<HashKind>,
}

impl<'a> Rules<'a> {
    pub(super) fn new(geometry: &'a Geometry, ino: Ino, own: &InodeFields) -> Self {
        Self {
            geometry,
            ino,
            sums: geometry.sums.of_inode(ino, own.generation),
            is_indexed: own.has(FLAG_INDEX),
            hash: None,
        }
    }

    fn index_limit(&self, start: usize) -> usize {
        let tail = usize::from(self.geometry.sums.of_all());
        (self.geometry.block_size() - start) / DX_ENTRY - tail
    }
}

/// An entry as it stands.
struct Entry<'a> {
    at: usize,
    head: DirEntryHead,
    name: &'a [u8],
}

/// The entries up to byte `end` of a block; the place of a malformed one, which ends the list.
fn entries(bytes: &[u8], end: usize) -> impl Iterator<Item = Result<Entry<'_>, usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let entry = entry(&bytes[..end], at);
        at = entry
            .as_ref()
            .map_or(end, |entry| at + usize::from(entry.head.rec_len.get()));
        Some(entry)
    })
}

fn entry(bytes: &[u8], at: usize) -> Result<Entry<'_>, usize> {
    let (head, rest) = DirEntryHead::read_from_prefix(&bytes[at..]).map_err(|_| at)?;
    let (length, name) = (usize::from(head.rec_len.get()), usize::from(head.name_len));
    let needed = (HEAD + name).next_multiple_of(4).max(SHORTEST);
    if length < needed || !length.is_multiple_of(4) || length > bytes.len() - at {
        return Err(at);
    }
    Ok(Entry {
        at,
        head,
        name: &rest[..name],
    })
}

impl DirBlock {
    pub(super) fn parse(rules: &Rules<'_>, logical: u32, bytes: &[u8]) -> Self {
        let mut block = Self {
            is_indexed: rules.is_indexed,
            ..Self::default()
        };
        if rules.is_indexed && logical == 0 {
            block.parse_root(rules, bytes);
        } else if rules.is_indexed && is_node(rules, bytes) {
            block.is_node = true;
            block.parse_index(rules, NODE_INDEX, bytes);
        } else {
            block.parse_leaf(rules, logical, bytes);
        }
        block
    }

    fn parse_leaf(&mut self, rules: &Rules<'_>, logical: u32, bytes: &[u8]) {
        let mut end = bytes.len();
        if rules.geometry.sums.of_all() {
            end -= TAIL;
            self.check_tail(rules, bytes.split_at(end));
        }
        let mut nth = 0;
        for entry in entries(bytes, end) {
            match entry {
                Err(at) => self.faults.push(DirectoryFault::Entry(at)),
                Ok(entry) if logical == 0 && nth < 2 => self.dots(rules, nth, &entry, bytes),
                Ok(entry) => self.entry(rules, &entry),
            }
            nth += 1;
        }
        if logical == 0 && nth < 2 {
            self.faults.push(DirectoryFault::Dots(end));
        }
        self.check_twice();
    }

    fn check_tail(&mut self, rules: &Rules<'_>, (covered, tail): (&[u8], &[u8])) {
        let tail = DirTail::read_from_bytes(tail).expect("it has that size");
        let is_tail = tail.det_reserved_zero1 == 0
            && usize::from(tail.det_rec_len.get()) == TAIL
            && tail.det_reserved_zero2 == 0
            && tail.det_reserved_ft == TAIL_TYPE;
        if !is_tail {
            self.faults.push(DirectoryFault::Checksum(Defect::Missing));
        } else if rules.sums.sum(&[covered]) != tail.det_checksum.get() {
            self.faults.push(DirectoryFault::Checksum(Defect::Wrong));
        }
    }

    /// The first two entries.
    fn dots(&mut self, rules: &Rules<'_>, nth: usize, entry: &Entry<'_>, bytes: &[u8]) {
        let ino = Ino(entry.head.inode.get());
        let name: &[u8] = if nth == 0 { b"." } else { b".." };
        let is_ended = bytes[entry.at + HEAD + name.len()] == 0;
        let is_own =
            nth == 1 || ino == rules.ino && usize::from(entry.head.rec_len.get()) == SHORTEST;
        let is_directory = entry.head.file_type == Type::Directory.byte();
        let is_inode =
            ino == Ino::ROOT || ino >= rules.geometry.first_ino && rules.geometry.is_inode(ino);
        if entry.name != name || !is_ended || !is_own || !is_directory || !is_inode {
            self.faults.push(DirectoryFault::Dots(entry.at));
        }
        if nth == 1 {
            self.parent = Some(ino);
        }
    }

    fn entry(&mut self, rules: &Rules<'_>, entry: &Entry<'_>) {
        let ino = Ino(entry.head.inode.get());
        if ino.0 == 0 {
            return;
        }
        let name = entry.name;
        if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            self.faults.push(DirectoryFault::Name(name.into()));
            return;
        }
        let geometry = rules.geometry;
        let is_allowed = ino >= geometry.first_ino
            && geometry.is_inode(ino)
            && ino != rules.ino
            && Some(ino) != geometry.orphan_file;
        if !is_allowed {
            let name = name.into();
            self.faults.push(DirectoryFault::Inode { name, ino });
            return;
        }
        if let Some(kind) = rules.hash {
            let hash = kind.hash(name, &geometry.hash_seed);
            let (low, high) = self.hashes.unwrap_or((hash, hash));
            self.hashes = Some((low.min(hash), high.max(hash)));
        }
        self.subdirectories += u32::from(entry.head.file_type == Type::Directory.byte());
        self.names.push(Name {
            key: key(rules.ino, name),
            ino,
            file_type: entry.head.file_type,
        });
    }

    /// Of names that are there twice, all but one go.
    fn check_twice(&mut self) {
        self.names.sort_unstable();
        let faults = &mut self.faults;
        self.names.dedup_by(|name, before| {
            let is_twice = name.key == before.key;
            if is_twice {
                faults.push(DirectoryFault::Twice(name.name().into()));
            }
            is_twice
        });
    }

    fn parse_root(&mut self, rules: &Rules<'_>, bytes: &[u8]) {
        for (nth, entry) in entries(bytes, bytes.len()).enumerate() {
            match entry {
                Ok(entry) if nth < 2 => self.dots(rules, nth, &entry, bytes),
                Ok(Entry { at, .. }) | Err(at) => self.faults.push(DirectoryFault::Entry(at)),
            }
        }
        let info = &bytes[ROOT_INDEX - size_of::<DxRootInfo>()..ROOT_INDEX];
        let info = DxRootInfo::read_from_bytes(info).expect("it has that size");
        let fields = [
            (
                "reserved_zero",
                info.reserved_zero.get(),
                info.reserved_zero == 0,
            ),
            (
                "info_length",
                info.info_length.into(),
                info.info_length == 8,
            ),
            (
                "hash_version",
                info.hash_version.into(),
                info.hash_version <= 2,
            ),
            (
                "unused_flags",
                info.unused_flags.into(),
                info.unused_flags & 1 == 0,
            ),
        ];
        let wrong = fields.into_iter().filter(|(.., is_right)| !is_right);
        self.faults
            .extend(wrong.map(|(field, value, _)| {
                DirectoryFault::Index(IndexFault::Field { field, value })
            }));
        self.root = Some(Root {
            hash_version: info.hash_version,
            levels: info.indirect_levels,
        });
        self.parse_index(rules, ROOT_INDEX, bytes);
    }

    /// The pointers that stand from byte `start` of a block on.
    fn parse_index(&mut self, rules: &Rules<'_>, start: usize, bytes: &[u8]) {
        let limit = rules.index_limit(start);
        let head = DxCountLimit::read_from_prefix(&bytes[start..])
            .expect("it is there")
            .0;
        let count = usize::from(head.count.get());
        if usize::from(head.limit.get()) != limit || count == 0 || count > limit {
            let field = "limit or count";
            let value = u32::from(head.limit.get()) << 16 | u32::from(head.count.get());
            self.faults
                .push(DirectoryFault::Index(IndexFault::Field { field, value }));
            return;
        }
        let entries = bytes[start..].chunks_exact(DX_ENTRY).take(count);
        self.pointers = entries
            .map(|entry| {
                let entry = DxEntry::read_from_bytes(entry).expect("it has that size");
                Pointer {
                    hash: entry.hash.get(),
                    block: entry.block.get() & BLOCK_MASK,
                }
            })
            .collect();
        // Its hash is the lowest there is; what stands in its place are limit and count.
        self.pointers[0].hash = 0;
        if rules.geometry.sums.of_all() {
            let tail = &bytes[start + limit * DX_ENTRY..][..8];
            let covered = &bytes[..start + count * DX_ENTRY];
            let expected = rules.sums.sum(&[covered, &tail[..4], &[0; 4]]);
            if tail[4..] != expected.to_le_bytes() {
                self.faults.push(DirectoryFault::Checksum(Defect::Wrong));
            }
        }
    }
}

/// Whether a block of an indexed directory is a node: one unused entry over all of it, and room for as many pointers as
/// a node has.
fn is_node(rules: &Rules<'_>, bytes: &[u8]) -> bool {
    let head = DirEntryHead::read_from_prefix(bytes)
        .expect("a block is larger")
        .0;
    let limit = DxCountLimit::read_from_prefix(&bytes[NODE_INDEX..])
        .expect("a block is larger")
        .0;
    head.inode == 0
        && usize::from(head.rec_len.get()) == bytes.len()
        && head.name_len == 0
        && usize::from(limit.limit.get()) == rules.index_limit(NODE_INDEX)
}

/// A directory's number and a name of at most 255 bytes, as all names are ordered.
pub(super) fn key(directory: Ino, name: &[u8]) -> Arc<[u8]> {
    let mut key = [0; 4 + MAX_NAME];
    let length = name.len().min(MAX_NAME);
    key[..4].copy_from_slice(&directory.0.to_be_bytes());
    key[4..][..length].copy_from_slice(&name[..length]);
    key[..4 + length].into()
}
