//! Which side is at fault where aufs and a device differ.
//!
//! Where Docker recorded a layer's tar, and the device is what that says, the branch is at fault. What a tar does not tell of an
//! entry, and layers without a tar, are judged by what the conversion noted of the branch, and by its inodes' times of change,
//! which nobody can set.

use std::fmt;

use super::compare::Compared;
use super::recorded;
use super::unpack::Unpacked;
use crate::docker::CacheId;
use crate::ext4::read::{Inode, View};
use crate::tree::{Kind, LayerTree, Meta, Node, NodeId, Xattrs};

/// What became of a branch since it was converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchNow {
    /// Nothing was noted of it.
    Unknown,
    /// Names, types, owners, sizes and times are what they were.
    Same,
    /// They are not.
    Changed,
    /// It is gone.
    Missing,
}

/// What the conversion that is in place noted of the aufs side.
#[derive(Clone, Copy)]
pub struct Noted<'a> {
    /// When it was in place, in seconds since 1970.
    pub switched_at: u64,
    /// Looks at a branch.
    pub branch: &'a (dyn Fn(&CacheId) -> BranchNow + Sync),
}

impl fmt::Debug for Noted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Noted")
            .field("switched_at", &self.switched_at)
            .finish_non_exhaustive()
    }
}

/// Differences of a branch from its device that no tar decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Undecided {
    /// Those that show in what the conversion noted of the branch.
    pub(super) noted: bool,
    /// Other xattrs; when the first of their inodes was last changed in aufs, in seconds since 1970.
    pub(super) xattrs: Option<i64>,
}

impl Undecided {
    /// What of the differences that were found is undecided. With a tar, the device is what it says.
    pub(super) fn of(
        compared: &Compared,
        branch: &LayerTree,
        device: &View,
        tar: Option<&Unpacked>,
    ) -> Self {
        let mut undecided = Self {
            noted: tar.is_none() && compared.faults.count() > compared.attribute_faults,
            xattrs: None,
        };
        for &(node, ino) in &compared.unlike {
            let Some(inode) = device.inode(ino) else {
                continue; // the file system's own check names it
            };
            let told = tar.and_then(|tar| Some((tar, same_place(tar, branch, node)?)));
            undecided.add(told, branch.node(node), inode);
        }
        undecided
    }

    fn add(&mut self, told: Option<(&Unpacked, NodeId)>, is: &Node, inode: &Inode) {
        let device = inode.meta();
        // Whether the tar takes the branch's value for wrong. It takes the device's for right.
        let decided = |hybrid: &Meta| {
            told.is_some_and(|(tar, node)| {
                recorded::rejects(tar.tree.node(node), tar.unsure(node), hybrid)
            })
        };
        let hybrids = [
            Meta {
                mode: is.meta.mode,
                ..device.clone()
            },
            Meta {
                uid: is.meta.uid,
                gid: is.meta.gid,
                ..device.clone()
            },
            Meta {
                mtime: is.meta.mtime,
                ..device.clone()
            },
        ];
        self.noted |= hybrids
            .iter()
            .any(|hybrid| *hybrid != device && !decided(hybrid));
        self.noted |= has_other_value(is, inode) && told.is_none();
        for xattrs in hybrid_xattrs(&device.xattrs, &is.meta.xattrs) {
            let hybrid = Meta {
                xattrs,
                ..device.clone()
            };
            if !decided(&hybrid) {
                let changed = is.meta.ctime.sec();
                let first = self.xattrs.map_or(changed, |first| first.min(changed));
                self.xattrs = Some(first);
            }
        }
    }

    /// Whether all of it was changed in aufs since the conversion.
    pub(super) fn is_of_aufs(self, noted: Option<Noted<'_>>, id: &CacheId) -> bool {
        if self == Self::default() {
            return true;
        }
        let Some(noted) = noted else {
            return false;
        };
        let is_later =
            |changed: i64| u64::try_from(changed).is_ok_and(|at| at >= noted.switched_at);
        let by_time = !self.noted && self.xattrs.is_some_and(is_later);
        by_time || (noted.branch)(id) == BranchNow::Changed
    }
}

/// Whether what is no attribute differs: a size, a target, a device number.
fn has_other_value(is: &Node, inode: &Inode) -> bool {
    match &is.kind {
        Kind::Regular(file) => file.size != inode.size(),
        Kind::Symlink(target) => inode.target() != Some(target),
        Kind::CharDevice(number) | Kind::BlockDevice(number) => inode.device() != Some(*number),
        _ => false,
    }
}

/// The device's xattrs with one value of the branch each, for every name in which the two differ.
fn hybrid_xattrs(device: &Xattrs, branch: &Xattrs) -> Vec<Xattrs> {
    let value = |xattrs: &Xattrs, name: &[u8]| -> Option<Box<[u8]>> {
        let found = xattrs.iter().find(|(own, _)| *own == name);
        found.map(|(_, value)| value.into())
    };
    let mut names: Vec<&[u8]> = device
        .iter()
        .chain(branch.iter())
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .filter(|name| value(device, name) != value(branch, name))
        .map(|name| {
            let others = device.iter().filter(|(own, _)| *own != name);
            let others = others.map(|(own, value)| (own.into(), value.into()));
            let own = value(branch, name).map(|value| (name.into(), value));
            others.chain(own).collect()
        })
        .collect()
}

/// The tar's node of a branch's.
fn same_place(tar: &Unpacked, branch: &LayerTree, node: NodeId) -> Option<NodeId> {
    let path = branch.path(node);
    path.into_iter().try_fold(LayerTree::ROOT, |at, name| {
        tar.tree.directory(at)?.entry(name)
    })
}
