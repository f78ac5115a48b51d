//! Applies layer trees one upon the other, from the bottom up, in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aufs2dm::tree::{self, LayerTree, Meta, NodeId};

use super::merged::{Entry, Kind, MergedTree, join};
use super::walk::{os, sha256};

/// An inode: the layer's number and the node's in it.
type Inode = (usize, usize);
type Entries = BTreeMap<Vec<u8>, (Entry, Inode)>;

/// The layers' result, the bottom layer first; each comes with the branch that holds its files' bytes.
pub fn apply_layers(layers: &[(LayerTree, PathBuf)]) -> MergedTree {
    let mut entries = Entries::new();
    for (number, (tree, branch)) in layers.iter().enumerate() {
        let layer = Layer {
            number,
            tree,
            branch,
        };
        layer.put(LayerTree::ROOT, b"/", &mut entries);
    }
    MergedTree::grouped(entries)
}

struct Layer<'a> {
    number: usize,
    tree: &'a LayerTree,
    branch: &'a Path,
}

impl Layer<'_> {
    fn put(&self, id: NodeId, path: &[u8], entries: &mut Entries) {
        let below = entries.get(path).map(|(entry, _)| entry.kind.clone());
        let directory = self.tree.directory(id);
        if directory.is_none() || below != Some(Kind::Directory) {
            remove_contents(path, entries);
        }
        entries.insert(path.to_vec(), (self.entry(id), (self.number, id.index())));
        let Some(directory) = directory else { return };
        if directory.is_opaque() {
            remove_contents(path, entries);
        }
        for name in directory.removed() {
            let path = join(path, name);
            remove_contents(&path, entries);
            entries.remove(&path);
        }
        for entry in directory.entries() {
            self.put(entry.node, &join(path, entry.name), entries);
        }
    }

    fn entry(&self, id: NodeId) -> Entry {
        let node = self.tree.node(id);
        let Meta {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
            ..
        } = &node.meta;
        Entry {
            kind: self.kind(id),
            mode: u32::from(*mode),
            uid: *uid,
            gid: *gid,
            mtime: i128::from(mtime.sec()) * 1_000_000_000 + i128::from(mtime.nsec()),
            xattrs: xattrs
                .iter()
                .map(|(name, value)| (name.to_vec(), Some(value.to_vec())))
                .collect(),
            group: None,
        }
    }

    fn kind(&self, id: NodeId) -> Kind {
        match &self.tree.node(id).kind {
            tree::Kind::Directory(_) => Kind::Directory,
            tree::Kind::Regular(file) => {
                let mut source = self.branch.to_path_buf();
                source.extend(self.tree.path(id).into_iter().map(os));
                Kind::Regular {
                    size: file.size,
                    sha256: sha256(&source),
                }
            }
            tree::Kind::Symlink(target) => Kind::Symlink(target.to_vec()),
            tree::Kind::CharDevice(device) => Kind::Char(device.major, device.minor),
            tree::Kind::BlockDevice(device) => Kind::Block(device.major, device.minor),
            tree::Kind::Fifo => Kind::Fifo,
            tree::Kind::Socket => Kind::Socket,
        }
    }
}

fn remove_contents(path: &[u8], entries: &mut Entries) {
    let start = join(path, b"");
    let below: Vec<_> = entries
        .range(start.clone()..)
        .take_while(|(path, _)| path.starts_with(&start))
        // The root's own path is what its contents begin with.
        .filter(|(path, _)| **path != start)
        .map(|(path, _)| path.clone())
        .collect();
    for path in below {
        entries.remove(&path);
    }
}
