//! Turns an unpacked tar into a branch as aufs interprets it.

use std::collections::HashSet;

use super::tar::{ROOT, Unpack};
use super::unsure::Unsure;
use crate::aufs::Name;
use crate::tree::{LayerTree, Listing, NodeId};

/// A layer according to its tar.
#[derive(Debug)]
pub(in crate::verify) struct UnpackedLayer {
    /// What the layer changes.
    pub(in crate::verify) tree: LayerTree,
    /// The uncertain attributes of each node, by node index.
    unsure: Vec<Unsure>,
    /// Names that the tar both adds and deletes, by directory. The branch shows which one applies.
    both: HashSet<(NodeId, Box<[u8]>)>,
    /// Number of entries in the tar.
    pub(in crate::verify) entries: u64,
}

impl UnpackedLayer {
    /// The uncertain attributes of a node.
    pub(in crate::verify) fn unsure(&self, node: NodeId) -> Unsure {
        self.unsure[node.index()]
    }

    /// Whether the tar has both the name and its whiteout.
    pub(in crate::verify) fn is_both(&self, directory: NodeId, name: &[u8]) -> bool {
        !self.both.is_empty() && self.both.contains(&(directory, name.into()))
    }
}

/// A name in a directory: its node, and the entry that created it.
type Child = (Box<[u8]>, u32, u64);

/// The tree under construction.
struct Finish {
    unpacked: UnpackedLayer,
    /// The nodes that are in the tree already, by their numbers in the tar.
    placed: Vec<Option<NodeId>>,
    children: Vec<Vec<Child>>,
    pending: Vec<(u32, NodeId, bool)>,
}

impl Unpack {
    /// The finished layer.
    ///
    /// # Errors
    ///
    /// Why the tar does not determine the layer.
    pub(in crate::verify) fn finish(mut self) -> Result<UnpackedLayer, String> {
        if let Some(trouble) = self.trouble {
            return Err(trouble);
        }
        let mut children: Vec<Vec<Child>> = vec![Vec::new(); self.nodes.len()];
        for ((directory, name), named) in self.names.drain() {
            children[directory as usize].push((name, named.node, named.since));
        }
        let mut placed = vec![None; self.nodes.len()];
        placed[ROOT as usize] = Some(LayerTree::ROOT);
        let mut finish = Finish {
            unpacked: UnpackedLayer {
                tree: LayerTree::new(self.nodes[0].meta.clone()),
                unsure: vec![Unsure::ALL],
                both: HashSet::new(),
                entries: self.entries,
            },
            placed,
            children,
            pending: vec![(ROOT, LayerTree::ROOT, false)],
        };
        while let Some((node, id, opaque)) = finish.pending.pop() {
            finish.directory(&self, (node, id), opaque);
        }
        Ok(finish.unpacked)
    }
}

impl Finish {
    fn directory(&mut self, tar: &Unpack, (node, id): (u32, NodeId), opaque: bool) {
        let all = std::mem::take(&mut self.children[node as usize]);
        let mut listing = Listing {
            opaque,
            ..Listing::default()
        };
        let mut whiteouts: Vec<(&[u8], u64)> = Vec::new();
        for (name, child, since) in &all {
            match Name::parse(name) {
                Name::Whiteout(hidden) if tar.has_entry(*child) => {
                    whiteouts.push((hidden, *since));
                }
                Name::Opaque if tar.has_entry(*child) => listing.opaque = true,
                _ => {}
            }
        }
        whiteouts.sort_unstable();
        let whiteout_of = |name: &[u8]| {
            let at = whiteouts.binary_search_by(|(hidden, _)| (*hidden).cmp(name));
            at.ok().map(|at| whiteouts[at].1)
        };
        let mut kept = HashSet::new();
        for (name, child, since) in &all {
            match Name::parse(name) {
                Name::Own => {}
                Name::Metadata => continue,
                Name::Whiteout(_) | Name::Opaque | Name::Unnamed => {
                    // Only a directory has anything in it, and then it is like any other.
                    if !self.children[*child as usize].is_empty() {
                        let entry = self.place(tar, *child, false);
                        listing.entries.push((name.clone(), entry));
                    }
                    continue;
                }
            }
            let whiteout = whiteout_of(name);
            if whiteout.is_some() {
                self.unpacked.both.insert((id, name.clone()));
            }
            if whiteout.is_some_and(|whiteout| whiteout > *since) {
                continue;
            }
            let entry = self.place(tar, *child, whiteout.is_some());
            listing.entries.push((name.clone(), entry));
            if whiteout.is_some() {
                kept.insert(&**name);
            }
        }
        let removed = whiteouts.iter().filter(|(name, _)| !kept.contains(name));
        listing.removed = removed.map(|&(name, _)| name.into()).collect();
        self.unpacked.tree.set_directory(id, listing);
    }

    /// Adds a node, unless another of its names has already added it. A directory beside its own whiteout shows nothing
    /// of the layers below.
    fn place(&mut self, tar: &Unpack, node: u32, opaque: bool) -> NodeId {
        if let Some(placed) = self.placed[node as usize] {
            return placed;
        }
        let from = &tar.nodes[node as usize];
        let id = self.unpacked.tree.add(from.meta.clone(), from.kind.kind());
        self.unpacked.unsure.push(from.unsure);
        self.placed[node as usize] = Some(id);
        if tar.is_directory(node) {
            self.pending.push((node, id, opaque));
        }
        id
    }
}
