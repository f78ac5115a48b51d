//! All entries of a layer that ext4 cannot hold. Applying a layer ends at the first one.

use super::data::ranges;
use super::merge::check_target;
use super::state::{check_name, new_inode};
use crate::ext4::write::dirent::FileType;
use crate::ext4::write::error::Problem;
use crate::ext4::write::inode::{MAX_LINKS, device};
use crate::ext4::write::xattr::Set;
use crate::tree::{Kind, LayerTree, NodeId};

/// An entry that ext4 cannot hold as it is.
#[derive(Debug)]
pub struct EntryProblem {
    /// Its path in the layer, escaped.
    pub path: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// Checks every entry of a layer by itself. Whether a directory has too many names is known only once the layer is
/// applied.
pub fn problems_of(layer: &LayerTree) -> Vec<EntryProblem> {
    let mut names = vec![0_u64; layer.nr_nodes()];
    let mut found = Vec::new();
    let mut add = |node, problem| {
        let path = layer.display_path(node);
        found.push(EntryProblem { path, problem });
    };
    for (_, directory) in layer
        .nodes()
        .filter_map(|(node, _)| Some((node, layer.directory(node)?)))
    {
        for entry in directory.entries() {
            names[entry.node.index()] += 1;
            if let Err(problem) = check_name(entry.name) {
                add(entry.node, problem);
            }
        }
    }
    for (node, names) in layer.nodes().map(|(node, _)| node).zip(names) {
        let links = match layer.directory(node) {
            Some(_) if names > 1 => Some(Problem::LinkedDirectory),
            None if names > u64::from(MAX_LINKS) => Some(Problem::Links),
            _ => None,
        };
        for problem in links.into_iter().chain(problems_of_node(layer, node)) {
            add(node, problem);
        }
    }
    found
}

fn problems_of_node(layer: &LayerTree, node: NodeId) -> impl Iterator<Item = Problem> {
    let node = layer.node(node);
    let content = match &node.kind {
        Kind::Regular(file) => ranges(file).err(),
        Kind::Symlink(target) => check_target(target).err(),
        &Kind::CharDevice(number) | &Kind::BlockDevice(number) => device(number).err(),
        Kind::Directory(_) | Kind::Fifo | Kind::Socket => None,
    };
    // The type does not matter to the attributes.
    let attributes = new_inode(FileType::Regular, &node.meta).err();
    let xattrs = Set::new(&node.meta.xattrs).err();
    attributes.into_iter().chain(xattrs).chain(content)
}
