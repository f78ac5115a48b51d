//! Compares a layer's entries with the headers of its tar.
//!
//! Not everything on disk is in a tar, and not everything in a tar ends up on disk. What Docker and the kernel change
//! between the two is not damage: `docs/verification.md` has the list.

#[cfg(test)]
mod tests;

use std::fmt::Display;

use super::xattrs;
use crate::ext4::read::Inode;
use crate::tree::{
    DeviceNumber, Directory, Entry, Kind, LayerTree, Meta, Node, NodeId, Timestamp, escape,
};
use crate::verify::layer_report::Faults;
use crate::verify::reasons::TAR;
use crate::verify::unpack::{UnpackedLayer, Unsure};

/// An entry as it was found.
struct EntryView<'a> {
    meta: &'a Meta,
    size: u64,
    target: Option<&'a [u8]>,
    device: Option<DeviceNumber>,
}

/// The differences between an inode of a device and the tar's entry, which has the same type.
pub(in crate::verify) fn inode_faults(
    expected: &Node,
    unsure: Unsure,
    inode: &Inode,
) -> Vec<String> {
    let meta = inode.meta();
    let mut faults = faults(
        expected,
        unsure,
        &EntryView {
            meta: &meta,
            size: inode.size(),
            target: inode.target(),
            device: inode.device(),
        },
    );
    if inode.attribute_flags() != 0 {
        let flags = inode.attribute_flags();
        faults.push(format!(
            "has the attribute flags {flags:#x}, which no layer should have"
        ));
    }
    faults
}

/// The differences between a node of a branch and the tar's entry.
fn node_faults(expected: &Node, unsure: Unsure, found: &Node) -> Vec<String> {
    let (mut size, mut target, mut device) = (0, None, None);
    match &found.kind {
        Kind::Regular(file) => size = file.size,
        Kind::Symlink(own) => target = Some(&**own),
        Kind::CharDevice(number) | Kind::BlockDevice(number) => device = Some(*number),
        _ => {}
    }
    let meta = &found.meta;
    let seen = EntryView {
        meta,
        size,
        target,
        device,
    };
    faults(expected, unsure, &seen)
}

fn faults(expected: &Node, unsure: Unsure, seen: &EntryView<'_>) -> Vec<String> {
    if unsure.has(Unsure::ALL) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    meta_faults(expected, unsure, seen.meta, &mut faults);
    match &expected.kind {
        Kind::Regular(file) if file.size != seen.size => {
            faults.push(differ("size", seen.size, file.size));
        }
        Kind::Symlink(target) if seen.target != Some(target) => {
            let found = seen.target.map_or_else(|| "nothing".to_owned(), escape);
            faults.push(differ("target", found, escape(target)));
        }
        Kind::CharDevice(number) | Kind::BlockDevice(number) if seen.device != Some(*number) => {
            let text = |number: DeviceNumber| format!("{}:{}", number.major, number.minor);
            let found = seen.device.map_or_else(|| "nothing".to_owned(), text);
            faults.push(differ("device number", found, text(*number)));
        }
        _ => {}
    }
    faults
}

fn meta_faults(expected: &Node, unsure: Unsure, found: &Meta, faults: &mut Vec<String>) {
    let is_link = matches!(expected.kind, Kind::Symlink(_));
    let meta = &expected.meta;
    // Symbolic links all have the same mode.
    if !is_link && !is_same_mode(meta.mode, found.mode, unsure) {
        let octal = |mode| format!("{mode:04o}");
        faults.push(differ("mode", octal(found.mode), octal(meta.mode)));
    }
    if !unsure.has(Unsure::OWNER) && (found.uid, found.gid) != (meta.uid, meta.gid) {
        let owner = |meta: &Meta| format!("{}:{}", meta.uid, meta.gid);
        faults.push(differ("owner", owner(found), owner(meta)));
    }
    let is_same = unsure.has(Unsure::TIME) || is_same_time(meta.mtime, found.mtime, unsure);
    if !is_same {
        let time = |meta: &Meta| format!("{}.{:09}", meta.mtime.sec(), meta.mtime.nsec());
        faults.push(differ("modification time", time(found), time(meta)));
    }
    faults.extend(xattrs::faults(expected, unsure, &found.xattrs));
}

fn is_same_mode(expected: u16, found: u16, unsure: Unsure) -> bool {
    let lost = if unsure.has(Unsure::PRIVILEGE) {
        0o6000
    } else {
        0
    };
    unsure.has(Unsure::MODE) || found == expected || found == expected & !lost
}

/// Whether a time on disk matches the tar's. Docker replaces times outside its range by 1970. Many tars have whole
/// seconds, truncated or rounded, from branches with finer times; and many file systems of the hosts have whole
/// seconds.
/// Sources: moby v20.10.24 `pkg/system/chtimes.go`; go1.9 and go1.10 `archive/tar/writer.go`.
fn is_same_time(expected: Timestamp, found: Timestamp, unsure: Unsure) -> bool {
    const RANGE: std::ops::Range<i64> = 0..9_223_372_036; // up to 2^63 nanoseconds
    let is_as_told = |expected: Timestamp| {
        if unsure.has(Unsure::FRACTION) {
            let rounded = found.sec() + i64::from(found.nsec() >= 500_000_000);
            found.sec() == expected.sec() || rounded == expected.sec()
        } else {
            let is_cut = found.nsec() == 0 || found.nsec() == expected.nsec();
            found.sec() == expected.sec() && is_cut
        }
    };
    let is_out = !RANGE.contains(&expected.sec());
    is_as_told(expected.clamped()) || (is_out && found == Timestamp::default())
}

fn differ(what: &str, found: impl Display, expected: impl Display) -> String {
    format!("{what} is {found}, but {expected} in {TAR}")
}

/// Compares a branch with the tree that its tar produces: one entry for each of the tar's, and nothing else.
pub(in crate::verify) fn branch_faults(tar: &UnpackedLayer, branch: &LayerTree) -> Faults {
    let mut comparison = Comparison {
        tar,
        branch,
        found: vec![None; tar.tree.nr_nodes()],
        taken: vec![false; branch.nr_nodes()],
        faults: Faults::default(),
        pending: vec![(LayerTree::ROOT, LayerTree::ROOT)],
    };
    while let Some((told, is)) = comparison.pending.pop() {
        comparison.directory(told, is);
    }
    comparison.faults
}

struct Comparison<'a> {
    tar: &'a UnpackedLayer,
    branch: &'a LayerTree,
    /// For each node of the tar, the branch's node.
    found: Vec<Option<NodeId>>,
    /// For each node of the branch, whether it is one of the tar's.
    taken: Vec<bool>,
    faults: Faults,
    pending: Vec<(NodeId, NodeId)>,
}

impl Comparison<'_> {
    fn fault(&mut self, directory: NodeId, name: &[&[u8]], what: impl Display) {
        let above = self.tar.tree.display_path(directory);
        let name = escape(&name.concat());
        let above = above.trim_end_matches('/');
        self.faults.push(format_args!("{above}/{name}: {what}"));
    }

    fn directory(&mut self, at: NodeId, there: NodeId) {
        let (tar, branch) = (self.tar, self.branch);
        let (Some(told), Some(is)) = (tar.tree.directory(at), branch.directory(there)) else {
            return;
        };
        self.markers(at, told, is);
        for entry in told.entries() {
            match is.entry(entry.name) {
                Some(found) => self.entry((at, entry.name), entry.node, found),
                None if is.removes(entry.name) && tar.is_both(at, entry.name) => {}
                None => self.missing(at, entry),
            }
        }
        for entry in is.entries() {
            if told.entry(entry.name).is_none() && !tar.is_both(at, entry.name) {
                let what = format!("exists, but not in {TAR}");
                self.fault(at, &[entry.name], what);
            }
        }
    }

    /// Compares the names with which aufs deletes.
    fn markers(&mut self, at: NodeId, told: &Directory, is: &Directory) {
        const WHITEOUT: &[u8] = b".wh.";
        let extra = format!("exists, but not in {TAR}");
        if told.is_opaque() != is.is_opaque() {
            let what = if told.is_opaque() {
                "is missing"
            } else {
                &extra
            };
            self.fault(at, &[b".wh..wh..opq"], what);
        }
        for name in told.removed() {
            let is_kept = self.tar.is_both(at, name) && is.entry(name).is_some();
            if !is.removes(name) && !is_kept {
                self.fault(at, &[WHITEOUT, name], "is missing");
            }
        }
        for name in is.removed() {
            if !told.removes(name) && !self.tar.is_both(at, name) {
                self.fault(at, &[WHITEOUT, name], &extra);
            }
        }
    }

    fn entry(&mut self, name: (NodeId, &[u8]), told: NodeId, is: NodeId) {
        let (tar, branch) = (&self.tar.tree, self.branch);
        let (expected, found) = (tar.node(told), branch.node(is));
        if std::mem::discriminant(&expected.kind) != std::mem::discriminant(&found.kind) {
            let what = format!("has a different type than in {TAR}");
            self.fault(name.0, &[name.1], what);
            return;
        }
        match self.found[told.index()] {
            Some(first) if first != is => {
                let first = tar.display_path(told);
                let what = format!("is not the same file as {first}, unlike in {TAR}");
                self.fault(name.0, &[name.1], what);
                return;
            }
            Some(_) => return,
            None if self.taken[is.index()] => {
                let what = format!("is the same file as another, unlike in {TAR}");
                self.fault(name.0, &[name.1], what);
            }
            None => {}
        }
        self.found[told.index()] = Some(is);
        self.taken[is.index()] = true;
        for what in node_faults(expected, self.tar.unsure(told), found) {
            self.fault(name.0, &[name.1], what);
        }
        if matches!(expected.kind, Kind::Directory(_)) {
            self.pending.push((told, is));
        }
    }

    /// Reports a missing entry, with everything that the tar has below it.
    fn missing(&mut self, directory: NodeId, entry: Entry<'_>) {
        let tar = &self.tar.tree;
        let mut pending = vec![(directory, entry)];
        while let Some((at, entry)) = pending.pop() {
            self.fault(at, &[entry.name], "is missing");
            if let Some(directory) = tar.directory(entry.node) {
                let below = directory.entries().map(|below| (entry.node, below));
                let first = pending.len();
                pending.extend(below);
                pending[first..].reverse();
            }
        }
    }
}

/// The number of names in a layer, including whiteouts.
pub(in crate::verify) fn nr_names(tree: &LayerTree) -> usize {
    let directories = tree.nodes().filter_map(|(node, _)| tree.directory(node));
    directories
        .map(|directory| 1 + directory.entries().len() + directory.removed().len())
        .sum()
}
