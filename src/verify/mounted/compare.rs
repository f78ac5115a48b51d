//! Compares the tree of a mounted device with the merge of its layers' branches.
//!
//! The merge is computed one directory at a time by the rules that [`Directory`](crate::tree::Directory) implements; it
//! shares nothing with the writers. All names on the device are checked, whichever layer they come from.

use std::collections::HashMap;

use crate::tree::{Kind, LayerTree, NodeId, escape};
use crate::verify::attributes::{differ, meta_faults};
use crate::verify::layer_report::Faults;

/// An entry of one of the layers: the layer's index, with 0 for the topmost, and the node.
pub(super) type Origin = (usize, NodeId);

/// The result of the comparison.
#[derive(Debug, Default)]
pub(super) struct MergeComparison {
    /// Number of names in the topmost layer that were checked.
    pub(super) entries: u64,
    /// The faults, each with its path.
    pub(super) faults: Faults,
    /// Regular files with content, if both have the same size, and the device's nodes for them: their bytes are still
    /// to be compared.
    pub(super) files: Vec<(Origin, NodeId)>,
    /// Whether the device matches what the conversion recorded, so that only aufs has changed.
    pub(super) is_of_aufs: bool,
}

/// Compares everything except the bytes of files. `layers` are those whose merge the device holds, topmost first.
pub(super) fn compare(layers: &[&LayerTree], found: &LayerTree) -> MergeComparison {
    let mut comparison = Comparison {
        layers,
        found,
        placed: HashMap::new(),
        origins: HashMap::new(),
        pending: Vec::new(),
        merged: MergeComparison::default(),
    };
    let mut top = Slot::default();
    for at in 0..layers.len() {
        comparison.add((at, LayerTree::ROOT), &mut top);
    }
    if let Some(first) = top.first {
        comparison.attributes(first, LayerTree::ROOT, "/");
    }
    comparison.pending.push((top.directories, LayerTree::ROOT));
    while let Some((directories, node)) = comparison.pending.pop() {
        comparison.directory(&directories, node);
    }
    comparison.merged
}

/// What the layers have under one name, from the topmost down.
#[derive(Debug, Default)]
struct Slot {
    /// What is visible there; `None` if the name is removed.
    first: Option<Origin>,
    /// The directories that are merged into one.
    directories: Vec<Origin>,
    /// Whether nothing of the lower layers is visible.
    closed: bool,
}

struct Comparison<'a> {
    layers: &'a [&'a LayerTree],
    found: &'a LayerTree,
    /// Where files were found. Two names are the same file if and only if they are in the branch.
    placed: HashMap<Origin, NodeId>,
    origins: HashMap<NodeId, Origin>,
    pending: Vec<(Vec<Origin>, NodeId)>,
    merged: MergeComparison,
}

impl<'a> Comparison<'a> {
    fn tree(&self, (layer, _): Origin) -> &'a LayerTree {
        self.layers[layer]
    }

    /// Adds what the next lower layer has under a name.
    fn add(&self, origin: Origin, slot: &mut Slot) {
        if slot.closed {
            return;
        }
        match self.tree(origin).directory(origin.1) {
            Some(directory) => {
                slot.directories.push(origin);
                slot.closed = directory.is_opaque();
            }
            None => slot.closed = true,
        }
        slot.first.get_or_insert(origin);
    }

    /// The required contents of a directory that is the merge of these.
    fn merge(&self, directories: &[Origin]) -> HashMap<&'a [u8], Slot> {
        let mut slots: HashMap<&[u8], Slot> = HashMap::new();
        for &at in directories {
            let Some(directory) = self.tree(at).directory(at.1) else {
                continue;
            };
            for entry in directory.entries() {
                self.add((at.0, entry.node), slots.entry(entry.name).or_default());
            }
            for name in directory.removed() {
                slots.entry(name).or_default().closed = true;
            }
        }
        slots
    }

    fn directory(&mut self, directories: &[Origin], node: NodeId) {
        let found = self.found;
        let Some(listing) = found.directory(node) else {
            return;
        };
        let slots = self.merge(directories);
        for entry in listing.entries() {
            let is_expected = |slot: &Slot| slot.first.is_some();
            if !slots.get(entry.name).is_some_and(is_expected) {
                let what = match slots.get(entry.name) {
                    Some(_) => "exists, but a layer removes it",
                    None => "exists, but not in aufs",
                };
                self.name_fault(node, entry.name, what);
            }
        }
        let mut slots: Vec<_> = slots.into_iter().collect();
        slots.sort_unstable_by_key(|(name, _)| *name);
        for (name, slot) in slots {
            let Some(first) = slot.first else {
                continue;
            };
            self.merged.entries += u64::from(first.0 == 0);
            match listing.entry(name) {
                None => self.name_fault(node, name, "is missing"),
                Some(child) => self.entry((node, name), first, slot.directories, child),
            }
        }
    }

    fn entry(
        &mut self,
        at: (NodeId, &[u8]),
        first: Origin,
        directories: Vec<Origin>,
        child: NodeId,
    ) {
        let found = self.found;
        let (expected, other) = (
            &self.tree(first).node(first.1).kind,
            &found.node(child).kind,
        );
        if std::mem::discriminant(expected) != std::mem::discriminant(other) {
            self.name_fault(at.0, at.1, "has a different type than in aufs");
            return;
        }
        let path = self.path_of(at.0, at.1);
        if let Kind::Directory(_) = expected {
            self.attributes(first, child, &path);
            self.pending.push((directories, child));
            return;
        }
        match (
            self.placed.insert(first, child),
            self.origins.insert(child, first),
        ) {
            (None, None) => {
                self.attributes(first, child, &path);
                if let Kind::Regular(file) = expected
                    && matches!(other, Kind::Regular(other) if other.size == file.size)
                    && file.size > 0
                {
                    self.merged.files.push((first, child));
                }
            }
            (Some(known), Some(origin)) if known == child && origin == first => {}
            (Some(known), _) if known != child => {
                let what = "is not the same file as its other name, unlike in aufs";
                self.merged.faults.push(format_args!("{path}: {what}"));
            }
            _ => {
                let what = "is the same file as another, unlike in aufs";
                self.merged.faults.push(format_args!("{path}: {what}"));
            }
        }
    }

    fn attributes(&mut self, origin: Origin, child: NodeId, path: &str) {
        let (expected, other) = (self.tree(origin).node(origin.1), self.found.node(child));
        let mut faults = meta_faults(&expected.meta, &other.meta);
        match (&expected.kind, &other.kind) {
            (Kind::Regular(file), Kind::Regular(other)) if file.size != other.size => {
                faults.push(differ("size", other.size, file.size));
            }
            (Kind::Symlink(target), Kind::Symlink(other)) if target != other => {
                faults.push(differ("target", escape(other), escape(target)));
            }
            (Kind::CharDevice(number), Kind::CharDevice(other))
            | (Kind::BlockDevice(number), Kind::BlockDevice(other))
                if number != other =>
            {
                faults.push("device number differs from aufs".to_owned());
            }
            _ => {}
        }
        for what in faults {
            self.merged.faults.push(format_args!("{path}: {what}"));
        }
    }

    fn name_fault(&mut self, directory: NodeId, name: &[u8], what: &str) {
        let path = self.path_of(directory, name);
        self.merged.faults.push(format_args!("{path}: {what}"));
    }

    fn path_of(&self, directory: NodeId, name: &[u8]) -> String {
        let above = self.found.display_path(directory);
        format!("{}/{}", above.trim_end_matches('/'), escape(name))
    }
}
