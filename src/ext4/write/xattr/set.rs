//! Extended attributes: in the inode if all of them fit, else in one block.
//!
//! Source: linux v6.6 `fs/ext4/xattr.h`, `xattr.c`; e2fsprogs v1.47.0 `lib/ext2fs/ext_attr.c`. Identical sets of one
//! layer share their block.

#[cfg(test)]
mod tests;

use zerocopy::IntoBytes;

use super::acl;
use crate::ext4::checksum::Summer;
use crate::ext4::format::{BLOCK, RawInode, XATTR_MAGIC, XattrEntryHead, XattrHeader};
use crate::ext4::write::error::Problem;
use crate::tree::Xattrs;

/// Most inodes that share a block (`EXT4_XATTR_REFCOUNT_MAX`).
pub(in crate::ext4::write) const MAX_SHARERS: u32 = 1024;
/// Bytes of the header in the inode.
const INODE_HEADER: usize = 4;
/// Bytes in the inode for the header and all attributes.
const INODE_AREA: usize = 96;
/// Bytes of the header of a block.
const BLOCK_HEADER: usize = size_of::<XattrHeader>();
/// What ends a list of entries.
const END: usize = 4;
const HEAD: usize = size_of::<XattrEntryHead>();
/// Longest name without its prefix, and longest with.
const MAX_NAME: usize = 255;

/// Prefixes with their numbers; the two ACLs stand for whole names.
const PREFIXES: [(&[u8], u8); 4] = [
    (b"user.", 1),
    (b"trusted.", 4),
    (b"security.", 6),
    (b"system.", 7),
];
const ACL_ACCESS: (&[u8], u8) = (b"system.posix_acl_access", 2);
const ACL_DEFAULT: (&[u8], u8) = (b"system.posix_acl_default", 3);

/// One inode's attributes, sorted as a block wants them: by number, name's length, name.
///
/// Packed, each as number, name's length, value's length (two bytes, little-endian), name, value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::ext4::write) struct Set(Box<[u8]>);

/// A set and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ext4::write) struct StoredSet {
    pub(in crate::ext4::write) set: Set,
    /// `None`: in the inode.
    pub(in crate::ext4::write) block: Option<u32>,
}

/// What a block of attributes says of itself.
#[derive(Clone, Copy, Debug)]
pub(in crate::ext4::write) struct BlockPlace {
    pub(in crate::ext4::write) block: u32,
    pub(in crate::ext4::write) sharers: u32,
}

#[derive(Clone, Copy)]
struct Attribute<'a> {
    index: u8,
    name: &'a [u8],
    value: &'a [u8],
}

impl Set {
    /// The attributes as ext4 stores them, `None` when there are none.
    pub(in crate::ext4::write) fn new(xattrs: &Xattrs) -> Result<Option<Self>, Problem> {
        if xattrs.is_empty() {
            return Ok(None);
        }
        let mut attributes = Vec::new();
        for (full, value) in xattrs.iter() {
            let (index, name) = split_name(full)?;
            let value = if index == ACL_ACCESS.1 || index == ACL_DEFAULT.1 {
                acl::to_disk(value).ok_or_else(|| Problem::Acl { name: full.into() })?
            } else {
                value.to_vec()
            };
            attributes.push((index, name.len(), name, value));
        }
        attributes.sort_unstable();
        let sizes = attributes
            .iter()
            .map(|(_, name, _, value)| size(*name, value.len()));
        let bytes = BLOCK_HEADER + sizes.sum::<usize>() + END;
        if bytes > BLOCK {
            return Err(Problem::XattrsTooLarge { bytes });
        }
        let mut packed = Vec::new();
        for (index, _, name, value) in attributes {
            let short = |n: usize| u16::try_from(n).expect("all fit a block").to_le_bytes();
            packed.extend_from_slice(&[index, short(name.len())[0]]);
            packed.extend_from_slice(&short(value.len()));
            packed.extend_from_slice(name);
            packed.extend_from_slice(&value);
        }
        Ok(Some(Self(packed.into())))
    }

    /// Whether all of it has room in the inode.
    pub(in crate::ext4::write) fn fits_inode(&self) -> bool {
        let sizes = self.attributes().map(|a| size(a.name.len(), a.value.len()));
        INODE_HEADER + sizes.sum::<usize>() + END <= INODE_AREA
    }

    fn attributes(&self) -> impl Iterator<Item = Attribute<'_>> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (&[index, name, low, high], tail) = rest.split_first_chunk()?;
            let (name, tail) = tail.split_at(usize::from(name));
            let (value, tail) = tail.split_at(usize::from(u16::from_le_bytes([low, high])));
            rest = tail;
            Some(Attribute { index, name, value })
        })
    }

    /// The block's content.
    pub(in crate::ext4::write) fn encode_block(
        &self,
        place: BlockPlace,
        summer: &Summer,
        out: &mut [u8],
    ) {
        let hash = self.encode_entries(BLOCK_HEADER, 0, out);
        let mut header = XattrHeader {
            h_magic: XATTR_MAGIC.into(),
            h_refcount: place.sharers.into(),
            h_blocks: 1.into(),
            h_hash: hash.into(),
            h_checksum: 0.into(),
            h_reserved: [0.into(); 3],
        };
        out[..BLOCK_HEADER].copy_from_slice(header.as_bytes());
        if summer.is_full() {
            header.h_checksum = summer.xattr_block(place.block, out).into();
            out[..BLOCK_HEADER].copy_from_slice(header.as_bytes());
        }
    }

    /// Writes entries from byte `start` on and values from the end down; offsets count from byte `base`. The hash of all.
    fn encode_entries(&self, start: usize, base: usize, out: &mut [u8]) -> u32 {
        let (mut at, mut end, mut all) = (start, out.len(), 0_u32);
        for Attribute { index, name, value } in self.attributes() {
            end -= value.len().next_multiple_of(4);
            out[end..end + value.len()].copy_from_slice(value);
            let hash = entry_hash(name, value);
            all = all.rotate_left(16) ^ hash;
            let offset = if value.is_empty() { 0 } else { end - base };
            let small = |n: usize| u16::try_from(n).expect("all fit a block");
            let head = XattrEntryHead {
                e_name_len: u8::try_from(name.len()).expect("names were checked"),
                e_name_index: index,
                e_value_offs: small(offset).into(),
                e_value_inum: 0.into(),
                e_value_size: u32::from(small(value.len())).into(),
                e_hash: hash.into(),
            };
            out[at..at + HEAD].copy_from_slice(head.as_bytes());
            out[at + HEAD..at + HEAD + name.len()].copy_from_slice(name);
            at += HEAD + name.len().next_multiple_of(4);
        }
        all
    }
}

impl StoredSet {
    /// The inode's part: the attributes themselves or the block's number.
    pub(in crate::ext4::write) fn encode_in_inode(&self, raw: &mut RawInode) {
        if let Some(block) = self.block {
            raw.i_file_acl_lo = block.into();
            return;
        }
        raw.attributes[..INODE_HEADER].copy_from_slice(&XATTR_MAGIC.to_le_bytes());
        self.set
            .encode_entries(INODE_HEADER, INODE_HEADER, &mut raw.attributes);
    }
}

/// Bytes an attribute takes.
fn size(name: usize, value: usize) -> usize {
    HEAD + name.next_multiple_of(4) + value.next_multiple_of(4)
}

/// The prefix's number and what follows it.
fn split_name(full: &[u8]) -> Result<(u8, &[u8]), Problem> {
    for (name, index) in [ACL_ACCESS, ACL_DEFAULT] {
        if full == name {
            return Ok((index, &[]));
        }
    }
    PREFIXES
        .iter()
        .filter(|_| full.len() <= MAX_NAME)
        .find_map(|&(prefix, index)| Some((index, full.strip_prefix(prefix)?)))
        .filter(|(_, name)| !name.is_empty())
        .ok_or_else(|| Problem::XattrName { name: full.into() })
}

/// `ext4_xattr_hash_entry`, bytes taken as unsigned.
fn entry_hash(name: &[u8], value: &[u8]) -> u32 {
    let name = name
        .iter()
        .fold(0_u32, |hash, &byte| hash.rotate_left(5) ^ u32::from(byte));
    value.chunks(4).fold(name, |hash, chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        hash.rotate_left(16) ^ u32::from_le_bytes(word)
    })
}
