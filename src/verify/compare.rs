//! Compares a device with its parent and its branch: the difference between the two devices must be exactly what the
//! branch says. If there is no branch any more, the layer's tar takes its place.
//!
//! By induction, every device is then what its stack of branches says, and each comparison costs only what its layer
//! changes. Nothing here comes from the writers: the parent and the child are read from the disk, and the branch is
//! read by the rules of `docs/aufs.md`.

use std::collections::{HashMap, HashSet};

use super::attributes::{attribute_faults, same_attributes, unchanged};
use super::layer_report::Faults;
use super::unpack::UnpackedLayer;
use super::{paths, recorded};
use crate::content::is_directory;
use crate::devicemapper::{ID_FILE, ROOTFS};
use crate::ext4::Ino;
use crate::ext4::read::{Inode, Type, View};
use crate::tree::{Directory, Kind, LayerTree, NodeId, escape};
use crate::verify::reasons::TAR;

/// A layer's device, the device it is a snapshot of, and the layer in aufs.
#[derive(Clone, Copy)]
pub(super) struct Sides<'a> {
    pub(super) parent: &'a View,
    pub(super) child: &'a View,
    pub(super) branch: &'a LayerTree,
    /// The tar from which `branch` was unpacked in memory; `None`: `branch` is what aufs has.
    pub(super) tar: Option<&'a UnpackedLayer>,
    /// When the conversion recorded the device, in seconds since 1970, if its container was used since.
    pub(super) went_on_after: Option<i64>,
}

impl Sides<'_> {
    /// The name of what the device is compared with.
    fn other(&self) -> &'static str {
        if self.tar.is_some() { TAR } else { "aufs" }
    }
}

/// The result of a comparison.
#[derive(Debug, Default)]
pub(super) struct EntryComparison {
    /// Number of names in the branch that were checked.
    pub(super) entries: u64,
    /// The faults, each with its path.
    pub(super) faults: Faults,
    /// The faults that cannot come from a container that used the device since: the kernel records the time of each
    /// change.
    pub(super) untouched: Faults,
    /// Whether the device matches what the conversion recorded, so that only aufs has changed.
    pub(super) is_of_aufs: bool,
    /// The branch's regular files with their inodes on the device, if both have the same size: their bytes are still to
    /// be compared.
    pub(super) files: Vec<(NodeId, Ino)>,
    /// Files that occupy space on one side only, each with its path; that space holds zeros.
    pub(super) space: Faults,
    /// Inodes whose difference from the parent the branch explains.
    pub(super) explained: HashSet<Ino>,
}

/// Compares everything except the bytes of files.
pub(super) fn compare(sides: Sides<'_>) -> EntryComparison {
    let mut changed_names: HashMap<Ino, Vec<Box<[u8]>>> = HashMap::new();
    for (directory, name) in sides.child.changed_names(sides.parent) {
        changed_names
            .entry(directory)
            .or_default()
            .push(name.into());
    }
    let mut comparison = Comparison {
        sides,
        placed: vec![None; sides.branch.nr_nodes()],
        changed_names,
        found: EntryComparison::default(),
        pending: Vec::new(),
        has_moved: false,
    };
    // The order matters: names are counted on the way down, so links can be judged only when all directories are done,
    // and what is left unexplained only when everything has been explained. A list instead of a recursion, for the
    // depth of a tree is not ours to choose.
    comparison.top();
    while let Some(visit) = comparison.pending.pop() {
        comparison.directory(visit);
    }
    comparison.links();
    comparison.unexplained();
    comparison.found
}

/// A directory of the branch, on the devices.
#[derive(Clone, Copy)]
struct Visit {
    node: NodeId,
    /// The directory it is merged into, on the parent.
    below: Option<Ino>,
    ino: Ino,
    /// Whether a container may have moved it here with all its contents: the kernel records that in the directory only.
    is_moved: bool,
}

/// The location where a node of the branch was found.
#[derive(Clone, Copy)]
struct NodePlace {
    ino: Ino,
    names: u64,
}

struct Comparison<'a> {
    sides: Sides<'a>,
    /// The locations, by node.
    placed: Vec<Option<NodePlace>>,
    /// Names that are new, gone or lead to another inode than on the parent, by directory.
    changed_names: HashMap<Ino, Vec<Box<[u8]>>>,
    found: EntryComparison,
    pending: Vec<Visit>,
    /// Whether a container may have moved a directory of the branch.
    has_moved: bool,
}

impl Comparison<'_> {
    /// Reports a fault. `changed` is the inode that changes with it: for a name, its directory. `None` if that proves
    /// nothing because a directory was moved.
    fn fault(&mut self, changed: Option<Ino>, path: &str, what: impl std::fmt::Display) {
        if changed.is_some_and(|ino| self.is_untouched(ino)) {
            self.found.untouched.push(format_args!(
                "{path}: {what}, although nothing has changed it since the conversion"
            ));
        }
        self.found.faults.push(format_args!("{path}: {what}"));
    }

    /// Whether a container that used the device has left an inode unchanged: every change to an inode sets its change
    /// time.
    fn is_untouched(&self, ino: Ino) -> bool {
        // Whole seconds are enough. Going on takes a mount in a later second than the note, and whatever changes an
        // inode comes after the mount.
        let inode = self.sides.child.inode(ino);
        let after = self.sides.went_on_after;
        after
            .zip(inode)
            .is_some_and(|(after, inode)| inode.meta().ctime.sec() <= after)
    }

    /// Whether a container may have given a directory its name. If it is the same directory as below, it has its name
    /// from there.
    fn may_be_moved(&self, below: Option<Ino>, ino: Ino) -> bool {
        // A rename moves the time of change of the directory that is renamed, not of what is in it.
        self.sides.went_on_after.is_some() && below != Some(ino) && !self.is_untouched(ino)
    }

    /// Checks what is beside the layer's tree: nothing, except what the first layer of a chain adds.
    fn top(&mut self) {
        let Sides { parent, child, .. } = self.sides;
        // Only the first device of a chain has a parent without `rootfs`, the base device. On all others every name
        // here must lead where it led.
        let first = parent.lookup(Ino::ROOT, ROOTFS.as_bytes()).is_none();
        self.found.explained.insert(Ino::ROOT);
        for (name, ino) in child.names(Ino::ROOT) {
            let own = name == ROOTFS.as_bytes() || name == ID_FILE.as_bytes();
            match parent.lookup(Ino::ROOT, name) {
                Some(below) if below == ino => {}
                None if first && own => {
                    self.found.explained.insert(ino);
                }
                _ => self.fault(
                    Some(Ino::ROOT),
                    &beside(name),
                    "does not belong on the device",
                ),
            }
        }
        for (name, _) in parent.names(Ino::ROOT) {
            if child.lookup(Ino::ROOT, name).is_none() {
                self.fault(Some(Ino::ROOT), &beside(name), "is missing");
            }
        }
        if let (Some(below), Some(inode)) = (parent.inode(Ino::ROOT), child.inode(Ino::ROOT))
            && !same_attributes(below, inode)
        {
            self.fault(
                Some(Ino::ROOT),
                "/ (beside rootfs)",
                "has different attributes than on the parent",
            );
        }
        let rootfs = child.lookup(Ino::ROOT, ROOTFS.as_bytes());
        let Some(ino) = rootfs.filter(|&ino| is_directory(child, ino)) else {
            self.fault(
                Some(Ino::ROOT),
                &beside(ROOTFS.as_bytes()),
                "is not a directory",
            );
            return;
        };
        let below = parent.lookup(Ino::ROOT, ROOTFS.as_bytes());
        self.merge(LayerTree::ROOT, below, (ino, false));
    }

    /// Queues a directory of the branch for comparison, and compares the directory itself.
    fn merge(&mut self, node: NodeId, below: Option<Ino>, (ino, is_moved): (Ino, bool)) {
        // Recorded before anything below is checked: this shows `entry` that a second name leads here.
        self.found.explained.insert(ino);
        self.attributes(node, (ino, is_moved));
        self.has_moved |= is_moved;
        let parent = self.sides.parent;
        self.pending.push(Visit {
            node,
            below: below.filter(|&below| is_directory(parent, below)),
            ino,
            is_moved,
        });
    }

    fn attributes(&mut self, node: NodeId, (ino, is_moved): (Ino, bool)) {
        let Some(inode) = self.sides.child.inode(ino) else {
            return; // the file system's own check names it
        };
        let expected = self.sides.branch.node(node);
        let faults = match self.sides.tar {
            Some(tar) => recorded::inode_faults(expected, tar.unsure(node), inode),
            None => attribute_faults(expected, inode),
        };
        if !faults.is_empty() {
            let path = self.sides.branch.display_path(node);
            for what in &faults {
                self.fault((!is_moved).then_some(ino), &path, what);
            }
        }
    }

    /// Checks the names in a directory: those of the branch, and those from below that it neither hides nor removes.
    fn directory(&mut self, at: Visit) {
        let Sides {
            parent,
            child,
            branch,
            ..
        } = self.sides;
        let directory = branch
            .directory(at.node)
            .expect("only directories are merged");
        // An opaque directory hides all below it. Without a directory below, every name must be the branch's own.
        let at = Visit {
            below: at.below.filter(|_| !directory.is_opaque()),
            ..at
        };
        // One inode on both devices: its names can differ only where the two views do, so a directory of a hundred
        // thousand names costs what changed in it. Made anew, it shares nothing with the one below, and all names of
        // both are looked at: those of the child for what does not belong, those of the parent for what is missing.
        if at.below == Some(at.ino) {
            for name in self.changed_names.remove(&at.ino).unwrap_or_default() {
                self.other_name(at, directory, &name);
            }
        } else {
            let below = at.below.map(|below| parent.names(below));
            let names = child.names(at.ino).chain(below.into_iter().flatten());
            for (name, _) in names {
                self.other_name(at, directory, name);
            }
        }
        for entry in directory.entries() {
            match child.lookup(at.ino, entry.name) {
                None => {
                    let kind = &branch.node(entry.node).kind;
                    // A directory that is not here may be elsewhere, with all that is in it.
                    self.has_moved |= matches!(kind, Kind::Directory(_));
                    self.name_fault(at, entry.name, "is missing");
                }
                Some(ino) => {
                    let under = at.below.and_then(|below| parent.lookup(below, entry.name));
                    self.entry((at, entry.name), entry.node, under, ino);
                }
            }
        }
        for name in directory.removed() {
            if child.lookup(at.ino, name).is_some() {
                self.name_fault(at, name, "exists, but the layer removes it");
            }
        }
    }

    /// Checks that a name which the branch neither adds nor removes is what it is below.
    fn other_name(&mut self, at: Visit, directory: &Directory, name: &[u8]) {
        if directory.entry(name).is_some() || directory.removes(name) {
            return;
        }
        let below = at
            .below
            .and_then(|below| self.sides.parent.lookup(below, name));
        let what = match (below, self.sides.child.lookup(at.ino, name)) {
            (below, found) if below == found => return,
            (Some(_), None) => "is missing; no layer removed it".to_owned(),
            (None, _) => format!("exists, but not in {}", self.sides.other()),
            (Some(_), Some(_)) => "is not the same file as in the layer below".to_owned(),
        };
        self.name_fault(at, name, &what);
    }

    fn name_fault(&mut self, at: Visit, name: &[u8], what: &str) {
        let path = self.path_of(at.node, name);
        self.fault((!at.is_moved).then_some(at.ino), &path, what);
    }

    fn path_of(&self, directory: NodeId, name: &[u8]) -> String {
        let above = self.sides.branch.display_path(directory);
        format!("{}/{}", above.trim_end_matches('/'), escape(name))
    }

    /// Checks a name that the branch adds.
    fn entry(&mut self, (at, name): (Visit, &[u8]), node: NodeId, under: Option<Ino>, ino: Ino) {
        self.found.entries += 1;
        let kind = &self.sides.branch.node(node).kind;
        let found = self.sides.child.inode(ino).and_then(Inode::file_type);
        if found != Some(type_of(kind)) {
            // Its name has been reported. As an unexplained inode it would be reported again.
            self.found.explained.insert(ino);
            let what = format!("has a different type than in {}", self.sides.other());
            self.has_moved |= matches!(kind, Kind::Directory(_));
            self.name_fault(at, name, &what);
            return;
        }
        if matches!(kind, Kind::Directory(_)) {
            // On a damaged device a directory may have two names, and be below itself. It is entered once, or the walk
            // would not end.
            if self.found.explained.contains(&ino) {
                self.name_fault(at, name, "is a directory that also has another name");
                return;
            }
            let is_moved = at.is_moved || self.may_be_moved(under, ino);
            self.merge(node, under, (ino, is_moved));
            return;
        }
        // Names and files must correspond both ways: all names of a node lead to one inode, and an inode belongs to one
        // node. Each way catches what the other does not, a link that was broken up or two files that became one.
        match &mut self.placed[node.index()] {
            Some(placed) => {
                placed.names += 1;
                if placed.ino != ino {
                    let first = self.sides.branch.display_path(node);
                    let other = self.sides.other();
                    let what = format!("is not the same file as {first}, unlike in {other}");
                    self.name_fault(at, name, &what);
                    self.found.explained.insert(ino);
                }
            }
            slot @ None => {
                *slot = Some(NodePlace { ino, names: 1 });
                if !self.found.explained.insert(ino) {
                    let other = self.sides.other();
                    let what = format!("is the same file as another, unlike in {other}");
                    self.name_fault(at, name, &what);
                }
                self.attributes(node, (ino, at.is_moved));
                self.note_content(node, ino);
            }
        }
    }

    fn note_content(&mut self, node: NodeId, ino: Ino) {
        // Different sizes are reported as attributes. The bytes of such files cannot be equal.
        if let Some(file) = self.sides.branch.regular(node)
            && self
                .sides
                .child
                .inode(ino)
                .is_some_and(|inode| inode.size() == file.size)
            && file.size > 0
        {
            self.found.files.push((node, ino));
        }
    }

    /// Checks that every name of a file is the branch's: no name of another layer leads to it.
    fn links(&mut self) {
        let child = self.sides.child;
        let nodes = self.sides.branch.nodes().map(|(node, _)| node);
        for (node, placed) in nodes.zip(std::mem::take(&mut self.placed)) {
            let Some(NodePlace { ino, names }) = placed else {
                continue;
            };
            let links = child.inode(ino).map_or(0, |inode| u64::from(inode.links()));
            // Every directory of the branch has been walked, so a further name lies in a directory that the layer does
            // not touch.
            if links != names {
                let path = self.sides.branch.display_path(node);
                let other = self.sides.other();
                let what = format!("has {links} names, but {names} in {other}");
                // Names in a directory that was moved are elsewhere now.
                self.fault((!self.has_moved).then_some(ino), &path, what);
            }
        }
    }

    /// Reports differences from the parent that the branch does not contain. A removed name lowers the link count by
    /// one and changes nothing else; an inode without any name left is gone, which the check of the file system itself
    /// ensures.
    fn unexplained(&mut self) {
        let Sides { parent, child, .. } = self.sides;
        let mut found = Vec::new();
        // By inode, not by name: this also finds what was written through no name of the branch, and blocks that moved
        // under a file that nobody touched.
        for ino in child.changed_since(parent) {
            if self.found.explained.contains(&ino) || is_reserved(ino) {
                continue;
            }
            let Some(inode) = child.inode(ino) else {
                continue;
            };
            let what = match parent.inode(ino) {
                None => Some("is new, but the layer does not contain it"),
                Some(below) => unchanged((parent, below), (child, inode), ino).err(),
            };
            found.extend(what.map(|what| (ino, what)));
        }
        let (inodes, what): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        let named = paths::shown(child, &inodes);
        for ((name, what), ino) in named.iter().zip(what).zip(inodes) {
            // What the branch has of it may be where a directory was moved to.
            self.fault((!self.has_moved).then_some(ino), name, what);
        }
    }
}

/// Whether an inode is one that the file system reserves for itself, such as the journal and the resize inode: each
/// mount writes to them. Source: linux v6.6 `fs/ext4/ext4.h`, `EXT4_GOOD_OLD_FIRST_INO`.
pub(super) fn is_reserved(ino: Ino) -> bool {
    ino.0 < 11 && ino != Ino::ROOT
}

/// The display form of a path beside the layer's tree.
fn beside(name: &[u8]) -> String {
    format!("{} (beside rootfs)", escape(name))
}

fn type_of(kind: &Kind) -> Type {
    match kind {
        Kind::Directory(_) => Type::Directory,
        Kind::Regular(_) => Type::Regular,
        Kind::Symlink(_) => Type::Symlink,
        Kind::CharDevice(_) => Type::CharDevice,
        Kind::BlockDevice(_) => Type::BlockDevice,
        Kind::Fifo => Type::Fifo,
        Kind::Socket => Type::Socket,
    }
}
