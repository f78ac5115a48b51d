//! One layer's changes as a tree of nodes in one arena.
//!
//! A node is an inode: several names of one file (hard links) are several [`Entry`]s with the same [`NodeId`]. Every
//! node stores the first name that it got, so that its path can be found without a map of paths.

#[cfg(test)]
mod tests;

use std::ops::Range;

use super::display::escape_path;
use super::meta::{DeviceNumber, Meta};

/// A node's index in its [`LayerTree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// Its index among the layer's nodes: 0 for the root, then in the order of [`LayerTree::add`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A run of data in a sparse file, in bytes. Between runs there are holes, which read as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First byte with data.
    pub start: u64,
    /// First byte after the run; above `start`, at most the file's size.
    pub end: u64,
}

/// A regular file. Its bytes stay in the source branch: whoever copies them opens [`LayerTree::path`] there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regular {
    /// Length in bytes.
    pub size: u64,
    /// The runs of data of a file with holes, ascending and disjoint. `None`: the whole file is data.
    pub segments: Option<Box<Vec<Segment>>>,
}

/// The kind of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory: merged into one below it, unless [opaque](Directory::is_opaque).
    Directory(Box<Directory>),
    /// A regular file.
    Regular(Regular),
    /// A symbolic link with its target, 1 to 4095 bytes without NUL.
    Symlink(Box<[u8]>),
    /// A character device.
    CharDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// A name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// 1 to 255 bytes without NUL and `/`, never `.` or `..`.
    pub name: &'a [u8],
    /// The node that it names.
    pub node: NodeId,
}

/// A directory's part of the layer.
///
/// It is applied to the directory below in this order: [`opaque`](Self::is_opaque) empties it, then the
/// [`removed`](Self::removed) names are removed, then the [`entries`](Self::entries) are added. A name is never in both
/// lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    opaque: bool,
    removed: Names,
    entries: Names,
    nodes: Box<[NodeId]>,
}

impl Directory {
    /// Whether it hides everything of the layers below.
    pub fn is_opaque(&self) -> bool {
        self.opaque
    }

    /// Names of the layers below that this layer removes, ascending by bytes. Such a name need not exist.
    pub fn removed(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.removed.iter()
    }

    /// Whether this layer removes the name.
    pub fn removes(&self, name: &[u8]) -> bool {
        self.removed.position(name).is_some()
    }

    /// The entries that this layer adds, ascending by the bytes of their names.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        self.entries_in(0..self.nodes.len())
    }

    /// The [`entries`](Self::entries) with these indexes.
    pub fn entries_in(&self, places: Range<usize>) -> impl ExactSizeIterator<Item = Entry<'_>> {
        places.map(|at| Entry {
            name: self.entries.name(at),
            node: self.nodes[at],
        })
    }

    /// The node with this name in this layer.
    pub fn entry(&self, name: &[u8]) -> Option<NodeId> {
        self.entries.position(name).map(|at| self.nodes[at])
    }
}

/// The content with which [`LayerTree::set_directory`] fills a directory; the lists may be in any order.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Whether it hides everything of the layers below.
    pub opaque: bool,
    /// Names of the layers below that the layer removes.
    pub removed: Vec<Box<[u8]>>,
    /// The entries that the layer adds.
    pub entries: Vec<(Box<[u8]>, NodeId)>,
}

/// Sorted names in one allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    bytes: Box<[u8]>,
    ends: Box<[u32]>,
}

impl Names {
    fn new<'a>(names: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for name in names {
            bytes.extend_from_slice(name);
            ends.push(
                u32::try_from(bytes.len()).expect("a directory's names take less than 4 GiB"),
            );
        }
        Self {
            bytes: bytes.into(),
            ends: ends.into(),
        }
    }

    fn name(&self, at: usize) -> &[u8] {
        let start = if at == 0 {
            0
        } else {
            self.ends[at - 1] as usize
        };
        &self.bytes[start..self.ends[at] as usize]
    }

    fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.ends.len()).map(|at| self.name(at))
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.name(middle).cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }
}

/// One inode of the layer.
#[derive(Clone, Debug)]
pub struct Node {
    /// Mode, owner, times, xattrs.
    pub meta: Meta,
    /// Its kind.
    pub kind: Kind,
    parent: NodeId,
    place: u32,
}

/// The changes of one layer to the layers below it.
#[derive(Clone, Debug)]
pub struct LayerTree {
    nodes: Vec<Node>,
}

impl LayerTree {
    /// The root directory's node.
    pub const ROOT: NodeId = NodeId(0);

    /// A layer with an empty root directory that has these attributes.
    pub fn new(root: Meta) -> Self {
        let kind = Kind::Directory(Box::default());
        Self {
            nodes: vec![Node {
                meta: root,
                kind,
                parent: Self::ROOT,
                place: 0,
            }],
        }
    }

    /// Adds a node that no directory names yet.
    ///
    /// # Panics
    ///
    /// Panics if the layer already has 2^32 nodes, more than an ext4 file system can hold.
    pub fn add(&mut self, meta: Meta, kind: Kind) -> NodeId {
        let id = NodeId(
            u32::try_from(self.nodes.len())
                .expect("an ext4 file system has fewer than 2^32 inodes"),
        );
        self.nodes.push(Node {
            meta,
            kind,
            parent: id,
            place: 0,
        });
        id
    }

    /// Fills the directory `id`, replacing its previous content.
    ///
    /// # Panics
    ///
    /// Panics if `id` is not a directory, or if a name occurs twice in `entries` or in both lists.
    pub fn set_directory(&mut self, id: NodeId, listing: Listing) {
        let Listing {
            opaque,
            mut removed,
            mut entries,
        } = listing;
        removed.sort_unstable();
        removed.dedup();
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        assert!(
            entries.windows(2).all(|pair| pair[0].0 != pair[1].0),
            "a directory names each entry once"
        );
        for (place, &(_, child)) in entries.iter().enumerate() {
            let node = &mut self.nodes[child.0 as usize];
            if node.parent == child {
                node.parent = id;
                node.place = u32::try_from(place).expect("a directory has fewer than 2^32 entries");
            }
        }
        let directory = Directory {
            opaque,
            removed: Names::new(removed.iter().map(|name| &**name)),
            entries: Names::new(entries.iter().map(|(name, _)| &**name)),
            nodes: entries.iter().map(|&(_, node)| node).collect(),
        };
        assert!(
            removed
                .iter()
                .all(|name| directory.entries.position(name).is_none()),
            "a directory's removed names and entries are disjoint"
        );
        let Kind::Directory(slot) = &mut self.nodes[id.0 as usize].kind else {
            panic!("node {} is no directory", id.0)
        };
        **slot = directory;
    }

    /// Releases the memory that was reserved for adding nodes.
    pub fn shrink_to_fit(&mut self) {
        self.nodes.shrink_to_fit();
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// A node whose attributes can be changed.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// The node as a directory; `None` if it is something else.
    pub fn directory(&self, id: NodeId) -> Option<&Directory> {
        match &self.node(id).kind {
            Kind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// The node as a regular file; `None` if it is something else.
    pub fn regular(&self, id: NodeId) -> Option<&Regular> {
        match &self.node(id).kind {
            Kind::Regular(regular) => Some(regular),
            _ => None,
        }
    }

    /// The number of nodes, including the root. Node ids count from 0 in the order of [`add`](Self::add).
    pub fn nr_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// All nodes with their ids, the root first.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        (0..).map(NodeId).zip(&self.nodes)
    }

    /// The components of the node's first name, outermost first; empty for the root.
    pub fn path(&self, id: NodeId) -> Vec<&[u8]> {
        let mut components = Vec::new();
        let mut at = id;
        while let Some((parent, name)) = self.first_name(at) {
            components.push(name);
            at = parent;
        }
        components.reverse();
        components
    }

    /// The directory that first named the node, and that name; `None` for the root.
    pub fn first_name(&self, id: NodeId) -> Option<(NodeId, &[u8])> {
        let Node { parent, place, .. } = self.node(id);
        let directory = self.directory(*parent).filter(|_| *parent != id)?;
        Some((*parent, directory.entries.name(*place as usize)))
    }

    /// The node's path for messages, in the form of [`escape_path`].
    pub fn display_path(&self, id: NodeId) -> String {
        escape_path(self.path(id))
    }
}
