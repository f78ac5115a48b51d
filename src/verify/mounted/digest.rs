//! A digest of all entries that the kernel shows of a device, with their attributes: the counterpart of
//! [`delta`](crate::verify::delta), which is for file systems that are read here.
//!
//! It covers the whole tree, like the comparison, and not only the differences from the parent.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::tree::{DeviceNumber, Directory, Kind, LayerTree, Node, NodeId};
use crate::verify::delta::{add_bytes, add_number};

/// The digest, in hexadecimal digits.
pub(super) fn digest(tree: &LayerTree) -> String {
    let mut sum = Sha256::new();
    // Two names of one file have one number.
    let mut numbers = HashMap::from([(LayerTree::ROOT, 0)]);
    let mut pending = vec![LayerTree::ROOT];
    add_node(&mut sum, tree.node(LayerTree::ROOT));
    while let Some(directory) = pending.pop() {
        let entries = tree.directory(directory).into_iter();
        for entry in entries.flat_map(Directory::entries) {
            add_bytes(&mut sum, entry.name);
            add_entry(&mut sum, (tree, entry.node), &mut numbers, &mut pending);
        }
        add_bytes(&mut sum, b""); // no name is empty: here the directory ends
    }
    format!("{:x}", sum.finalize())
}

fn add_entry(
    sum: &mut Sha256,
    (tree, id): (&LayerTree, NodeId),
    numbers: &mut HashMap<NodeId, usize>,
    pending: &mut Vec<NodeId>,
) {
    let next = numbers.len();
    let number = *numbers.entry(id).or_insert(next);
    sum.update((number as u64).to_le_bytes());
    if number < next {
        return;
    }
    add_node(sum, tree.node(id));
    if tree.directory(id).is_some() {
        pending.push(id);
    }
}

fn add_node(sum: &mut Sha256, node: &Node) {
    let meta = &node.meta;
    for number in [u32::from(meta.mode), meta.uid, meta.gid] {
        add_number(sum, number);
    }
    sum.update(meta.mtime.sec().to_le_bytes());
    add_number(sum, meta.mtime.nsec());
    sum.update((meta.xattrs.iter().count() as u64).to_le_bytes());
    for (name, value) in meta.xattrs.iter() {
        add_bytes(sum, name);
        add_bytes(sum, value);
    }
    let (kind, number) = match &node.kind {
        Kind::Directory(_) => ('d', None),
        Kind::Regular(file) => {
            sum.update(file.size.to_le_bytes());
            ('f', None)
        }
        Kind::Symlink(target) => {
            add_bytes(sum, target);
            ('l', None)
        }
        Kind::CharDevice(number) => ('c', Some(number)),
        Kind::BlockDevice(number) => ('b', Some(number)),
        Kind::Fifo => ('p', None),
        Kind::Socket => ('s', None),
    };
    add_number(sum, kind.into());
    if let Some(&DeviceNumber { major, minor }) = number {
        add_number(sum, major);
        add_number(sum, minor);
    }
}
