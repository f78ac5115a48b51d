//! Directories that two branches of a chain mark opaque, which aufs shows wrongly.
//!
//! At such a directory, aufs does not stop at the upper marker but continues to the lower one, so that files deleted in
//! between reappear. This program lets the upper marker take effect; what is found here is for the report. The search
//! passes the reachable markers from parent to child in a persistent map, so that the cost of a layer depends only on
//! its own size.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use imbl::OrdMap;

use crate::tree::{Directory, LayerTree, escape_path};

/// A directory marked opaque by two layers of one chain, with no deletion in between.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DoubleOpaque {
    /// The directory's path, with a leading slash; empty for the root.
    pub path: Arc<[u8]>,
    /// The layer with the upper marker.
    pub upper: Arc<str>,
    /// The layer with the next marker below.
    pub lower: Arc<str>,
}

impl std::fmt::Display for DoubleOpaque {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = escape_path(self.path.split(|&byte| byte == b'/').skip(1));
        let (upper, lower) = (&self.upper, &self.lower);
        write!(
            f,
            "{path}: opaque in {upper} and in {lower}, so aufs may have shown what was deleted in between"
        )
    }
}

/// The opaque markers of a chain of layers that aufs can reach from the top of the chain, by path. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct OpaqueDirs(OrdMap<Arc<[u8]>, Arc<str>>);

impl OpaqueDirs {
    /// The markers after the layer `id` is put on top of this chain, and the directories that it marks a second time,
    /// ascending.
    pub fn on_top(&self, id: &Arc<str>, tree: &LayerTree) -> (Self, Vec<DoubleOpaque>) {
        let mut above = self.clone();
        let mut doubles = Vec::new();
        let marks = |directory: Option<&Directory>| directory.is_some_and(Directory::is_opaque);
        if above.0.is_empty() && !tree.nodes().any(|(node, _)| marks(tree.directory(node))) {
            return (above, doubles);
        }
        let mut pending = vec![(LayerTree::ROOT, Vec::new())];
        while let Some((node, path)) = pending.pop() {
            let Some(directory) = tree.directory(node) else {
                continue;
            };
            if directory.is_opaque() {
                doubles.extend(above.mark(&path, id));
            }
            above.apply(&path, directory, tree);
            for entry in directory.entries() {
                if tree.directory(entry.node).is_some() {
                    pending.push((entry.node, join(&path, entry.name)));
                }
            }
        }
        doubles.sort_unstable();
        (above, doubles)
    }

    /// Marks the directory. Only if it had no marker does aufs stop here and reach none further down.
    fn mark(&mut self, path: &[u8], id: &Arc<str>) -> Option<DoubleOpaque> {
        let path: Arc<[u8]> = path.into();
        let lower = self.0.insert(path.clone(), id.clone());
        if lower.is_none() {
            self.forget_below(&path);
        }
        lower.map(|lower| DoubleOpaque {
            path,
            upper: id.clone(),
            lower,
        })
    }

    /// Removes the markers that the directory's deletions and non-directories hide.
    fn apply(&mut self, path: &[u8], directory: &Directory, tree: &LayerTree) {
        if self.below(path).next().is_none() {
            return;
        }
        for name in directory.removed() {
            self.forget(&join(path, name));
        }
        for entry in directory.entries() {
            if tree.directory(entry.node).is_none() {
                self.forget(&join(path, entry.name));
            }
        }
    }

    fn forget(&mut self, path: &[u8]) {
        self.0.remove(path);
        self.forget_below(path);
    }

    fn forget_below(&mut self, path: &[u8]) {
        let below: Vec<_> = self.below(path).cloned().collect();
        for path in below {
            self.0.remove(&path);
        }
    }

    /// The marked directories strictly below `path`.
    fn below(&self, path: &[u8]) -> impl Iterator<Item = &Arc<[u8]>> {
        let start: Arc<[u8]> = join(path, b"").into();
        let end: Arc<[u8]> = [path, b"0"].concat().into(); // the byte after the slash
        self.0.range(start..end).map(|(path, _)| path)
    }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    [path, b"/", name].concat()
}
