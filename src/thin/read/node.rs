//! A node of a B-tree, taken apart as it was read from disk: nothing in it is believed.

use std::mem::size_of;

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::thin::block_kind::BlockKind;
use crate::thin::error::{Error, Fault, malformed};
use crate::thin::format::{Block, INTERNAL_NODE, LEAF_NODE, RawNodeHeader};
use crate::thin::node_size::{KEY, max_entries, small};

/// The entries of a node that was read.
#[derive(Debug)]
pub(super) enum ParsedNode<'b, V> {
    Leaf {
        keys: &'b [U64],
        values: &'b [V],
    },
    Internal {
        keys: &'b [U64],
        children: &'b [U64],
    },
}

impl<V> ParsedNode<'_, V> {
    /// Entries there are.
    pub(super) fn len(&self) -> usize {
        let (Self::Leaf { keys, .. } | Self::Internal { keys, .. }) = self;
        keys.len()
    }

    /// Entries there is room for.
    pub(super) fn max_entries(&self) -> usize {
        match self {
            Self::Leaf { .. } => max_entries(size_of::<V>()),
            Self::Internal { .. } => max_entries(KEY),
        }
    }
}

/// Takes apart a node of a tree with values `V`, read and verified as block `nr`. Keys ascend.
///
/// # Errors
///
/// [`Error::Malformed`].
pub(super) fn parse_node<V>(
    nr: u64,
    is_root: bool,
    block: &Block,
) -> Result<ParsedNode<'_, V>, Error>
where
    V: FromBytes + Immutable + KnownLayout + Unaligned,
{
    let malformed = |fault| malformed(nr, BlockKind::Node, fault);
    let (header, body) = RawNodeHeader::ref_from_prefix(block).expect("a block has a header");
    let is_leaf = match header.flags.get() {
        LEAF_NODE => true,
        INTERNAL_NODE => false,
        flags => return Err(malformed(Fault::NodeFlags(flags))),
    };
    let value_size = if is_leaf { size_of::<V>() } else { KEY };
    let max = max_entries(value_size);
    if header.value_size != small(value_size) {
        return Err(malformed(Fault::ValueSize(header.value_size.get())));
    }
    if header.max_entries != small(max) {
        return Err(malformed(Fault::MaxEntries(header.max_entries.get())));
    }
    // Only a tree without entries has a node without. How few others may have, the caller judges.
    let least = usize::from(!(is_root && is_leaf));
    let nr_entries = usize::try_from(header.nr_entries.get()).unwrap_or(usize::MAX);
    if !(least..=max).contains(&nr_entries) {
        return Err(malformed(Fault::NrEntries(header.nr_entries.get())));
    }
    let (keys, values) = body.split_at(max * KEY);
    let keys: &[U64] = prefix(keys, nr_entries);
    if let Some(pair) = keys.windows(2).find(|pair| pair[0].get() >= pair[1].get()) {
        return Err(malformed(Fault::KeyOrder(pair[1].get())));
    }
    Ok(if is_leaf {
        let values = prefix(values, nr_entries);
        ParsedNode::Leaf { keys, values }
    } else {
        let children = prefix(values, nr_entries);
        ParsedNode::Internal { keys, children }
    })
}

/// The first `n` values in bytes that have room for them.
fn prefix<V: FromBytes + Immutable + KnownLayout + Unaligned>(bytes: &[u8], n: usize) -> &[V] {
    let bytes = &bytes[..n * size_of::<V>()];
    <[V]>::ref_from_bytes(bytes).expect("a multiple of the size, and any byte may begin a value")
}
