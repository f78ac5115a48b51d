//! Pseudo-links: names in `.wh..wh.plnk` that aufs gave to hard-linked files that it copied up and did not flush.

use std::collections::HashMap;

use super::finding::Finding;
use crate::tree::{Kind, LayerTree, NodeId};

/// The pseudo-links of a branch, each with its name and its inode number there.
#[derive(Debug, Default)]
pub(super) struct PseudoLinks(Vec<(Box<[u8]>, u64)>);

impl PseudoLinks {
    pub(super) fn add(&mut self, name: &[u8], inode: u64) {
        self.0.push((name.into(), inode));
    }

    /// One finding for each; `links` are the nodes by inode number.
    pub(super) fn findings(&self, tree: &LayerTree, links: &HashMap<u64, NodeId>) -> Vec<Finding> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let nodes = self.0.iter().filter_map(|(_, inode)| links.get(inode));
        let mut names: HashMap<NodeId, Vec<Box<[u8]>>> =
            nodes.map(|&node| (node, Vec::new())).collect();
        collect_names(tree, &mut names);
        self.0
            .iter()
            .map(|(link, inode)| Finding::PseudoLink {
                link: link.clone(),
                names: links
                    .get(inode)
                    .and_then(|node| names.get(node))
                    .cloned()
                    .unwrap_or_default(),
            })
            .collect()
    }
}

/// Fills in the paths of all names of the nodes that are keys of `names`.
fn collect_names(tree: &LayerTree, names: &mut HashMap<NodeId, Vec<Box<[u8]>>>) {
    for (id, node) in tree.nodes() {
        let Kind::Directory(directory) = &node.kind else {
            continue;
        };
        for entry in directory.entries() {
            if let Some(paths) = names.get_mut(&entry.node) {
                let mut components = tree.path(id);
                components.push(entry.name);
                paths.push(components.join(&b'/').into());
            }
        }
    }
    for paths in names.values_mut() {
        paths.sort_unstable();
    }
}
