//! Extended attributes, in the inode and in blocks.
//!
//! Source: linux v6.6 `fs/ext4/xattr.h`, `xattr.c`.

use std::ops::Range;

use zerocopy::FromBytes;

use super::acl;
use super::fault::XattrFault;
use super::layout::Geometry;
use crate::ext4::format::{XATTR_MAGIC, XattrEntryHead, XattrHeader};
use crate::tree::Xattrs;

/// Bytes of the head of a block.
const BLOCK_HEADER: usize = size_of::<XattrHeader>();
/// Bytes of the head in the inode.
const INODE_HEADER: usize = 4;
const HEAD: usize = size_of::<XattrEntryHead>();
/// Where the checksum stands in a block's head.
const SUM: usize = 16;
/// Prefixes by number; the two ACLs have no name behind it.
const PREFIXES: [(u8, &[u8]); 6] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
    (7, b"system."),
];

/// What a block of attributes holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct XattrBlock {
    pub(super) xattrs: Xattrs,
    /// How many inodes it says share it.
    pub(super) sharers: u32,
}

/// An entry as it stands.
struct Entry<'a> {
    index: u8,
    name: &'a [u8],
    value: &'a [u8],
    hash: u32,
}

/// Where entries and values lie.
struct Area<'a> {
    bytes: &'a [u8],
    /// Where the entries start.
    start: usize,
    /// Where values' offsets count from.
    base: usize,
}

/// The attributes in an inode whose extra fields end at `start`.
pub(super) fn in_inode(inode: &[u8], start: usize) -> Result<Xattrs, XattrFault> {
    let Some(bytes) = inode.get(start..) else {
        return Ok(Xattrs::default());
    };
    let is_there = bytes.first_chunk() == Some(&XATTR_MAGIC.to_le_bytes());
    if !is_there || bytes.len() <= INODE_HEADER {
        return Ok(Xattrs::default());
    }
    let area = Area {
        bytes,
        start: INODE_HEADER,
        base: INODE_HEADER,
    };
    let entries = area.entries()?;
    // Old kernels stored no hash here.
    if entries
        .iter()
        .any(|entry| entry.hash != 0 && !entry.has_right_hash())
    {
        return Err(XattrFault::Hash);
    }
    named(&entries)
}

/// A block's attributes with all that is wrong with it; `None` if there is nothing to read.
pub(super) fn parse_block(
    block: u64,
    bytes: &[u8],
    geometry: &Geometry,
) -> (Option<XattrBlock>, Vec<XattrFault>) {
    let header = XattrHeader::read_from_prefix(bytes)
        .expect("a block is larger")
        .0;
    if header.h_magic.get() != XATTR_MAGIC || header.h_blocks.get() != 1 {
        return (None, vec![XattrFault::Header]);
    }
    let mut faults = Vec::new();
    if geometry.sums.of_all() {
        let parts = [&bytes[..SUM], &[0; 4], &bytes[SUM + 4..]];
        let (expected, found) = (
            geometry.sums.numbered(block, &parts),
            header.h_checksum.get(),
        );
        if found != expected {
            faults.push(XattrFault::Checksum { found, expected });
        }
    }
    let area = Area {
        bytes,
        start: BLOCK_HEADER,
        base: 0,
    };
    let read = area.entries().and_then(|entries| {
        check_entries(&entries, header.h_hash.get(), &mut faults);
        named(&entries)
    });
    let xattrs = read.unwrap_or_else(|fault| {
        faults.push(fault);
        Xattrs::default()
    });
    let read = XattrBlock {
        xattrs,
        sharers: header.h_refcount.get(),
    };
    (Some(read), faults)
}

fn check_entries(entries: &[Entry<'_>], hash: u32, faults: &mut Vec<XattrFault>) {
    if entries.iter().any(|entry| !entry.has_right_hash()) {
        faults.push(XattrFault::Hash);
    }
    let order = |entry: &Entry<'_>| (entry.index, entry.name.len());
    let ascend = |a: &Entry<'_>, b: &Entry<'_>| (order(a), a.name) < (order(b), b.name);
    if !entries.is_sorted_by(ascend) {
        faults.push(XattrFault::Order);
    }
    let all = entries
        .iter()
        .fold(0_u32, |all, entry| all.rotate_left(16) ^ entry.hash);
    let is_shareable = entries.iter().all(|entry| entry.hash != 0);
    if hash != 0 && is_shareable && hash != all {
        faults.push(XattrFault::Hash);
    }
    if entries.iter().any(|entry| entry.index == 0) {
        faults.push(XattrFault::Name);
    }
}

impl<'a> Area<'a> {
    /// The entries, none of which overlaps with another one, its value or the head.
    fn entries(&self) -> Result<Vec<Entry<'a>>, XattrFault> {
        let mut entries = Vec::new();
        let mut values: Vec<Range<usize>> = Vec::new();
        let mut at = self.start;
        loop {
            // The list ends with an entry of zeros, which needs its place too.
            let rest = self.bytes.get(at..).ok_or(XattrFault::Layout)?;
            if rest.first_chunk().ok_or(XattrFault::Layout)? == &[0; 4] {
                at += 4;
                break;
            }
            let (head, rest) =
                XattrEntryHead::read_from_prefix(rest).map_err(|_| XattrFault::Layout)?;
            let name_bytes = usize::from(head.e_name_len);
            at += HEAD + name_bytes.next_multiple_of(4);
            let name = rest.get(..name_bytes).ok_or(XattrFault::Layout)?;
            if head.e_value_inum.get() != 0 {
                return Err(XattrFault::ValueInode);
            }
            let start = self.base + usize::from(head.e_value_offs.get());
            let size = usize::try_from(head.e_value_size.get()).map_err(|_| XattrFault::Layout)?;
            let mut value: &[u8] = &[];
            if size > 0 {
                let end = start.checked_add(size).ok_or(XattrFault::Layout)?;
                value = self.bytes.get(start..end).ok_or(XattrFault::Layout)?;
                values.push(start..end.next_multiple_of(4));
            }
            entries.push(Entry {
                index: head.e_name_index,
                name,
                value,
                hash: head.e_hash.get(),
            });
        }
        values.push(0..at);
        self.check_disjoint(values)?;
        Ok(entries)
    }

    fn check_disjoint(&self, mut parts: Vec<Range<usize>>) -> Result<(), XattrFault> {
        parts.sort_unstable_by_key(|part| part.start);
        let overlap = parts.windows(2).any(|pair| pair[1].start < pair[0].end);
        let beyond = parts.iter().any(|part| part.end > self.bytes.len());
        if overlap || beyond {
            return Err(XattrFault::Layout);
        }
        Ok(())
    }
}

impl Entry<'_> {
    /// `ext4_xattr_hash_entry`; machines with signed bytes computed another one for names beyond ASCII.
    fn has_right_hash(&self) -> bool {
        let hash = |widen: fn(u8) -> u32| {
            let name = self
                .name
                .iter()
                .fold(0_u32, |hash, &byte| hash.rotate_left(5) ^ widen(byte));
            self.value.chunks(4).fold(name, |hash, chunk| {
                let mut word = [0; 4];
                word[..chunk.len()].copy_from_slice(chunk);
                hash.rotate_left(16) ^ u32::from_le_bytes(word)
            })
        };
        let signed = |byte: u8| i32::from(byte.cast_signed()).cast_unsigned();
        self.hash == hash(u32::from) || self.hash == hash(signed)
    }
}

/// The attributes that the kernel shows, by their full names.
fn named(entries: &[Entry<'_>]) -> Result<Xattrs, XattrFault> {
    let mut pairs = Vec::new();
    for entry in entries {
        let Some((index, prefix)) = PREFIXES.iter().find(|(index, _)| *index == entry.index) else {
            continue;
        };
        let value = match index {
            2 | 3 => acl::from_disk(entry.value).ok_or(XattrFault::Acl)?,
            _ => entry.value.into(),
        };
        let name: Box<[u8]> = [*prefix, entry.name].concat().into();
        pairs.push((name, value));
    }
    Ok(pairs.into_iter().collect())
}
