//! Compares an inode with an entry of a branch, and with its state on the parent.

use crate::ext4::Ino;
use crate::ext4::read::{Inode, Type, View};
use crate::tree::{Kind, Meta, Node, Xattrs, escape};

/// The differences, as one text each.
pub(super) fn attribute_faults(node: &Node, inode: &Inode) -> Vec<String> {
    let mut faults = meta_faults(&node.meta, &inode.meta());
    if inode.attribute_flags() != 0 {
        faults.push(format!(
            "has the attribute flags {:#x}, which no layer should have",
            inode.attribute_flags()
        ));
    }
    match &node.kind {
        Kind::Regular(file) if file.size != inode.size() => {
            faults.push(differ("size", inode.size(), file.size));
        }
        Kind::Symlink(target) if inode.target() != Some(target) => {
            let found = inode.target().map_or_else(|| "nothing".to_owned(), escape);
            faults.push(differ("target", found, escape(target)));
        }
        Kind::CharDevice(number) | Kind::BlockDevice(number) if inode.device() != Some(*number) => {
            faults.push("device number differs from aufs".to_owned());
        }
        _ => {}
    }
    faults
}

pub(super) fn meta_faults(expected: &Meta, found: &Meta) -> Vec<String> {
    let mut faults = Vec::new();
    if found.mode != expected.mode {
        let octal = |mode| format!("{mode:04o}");
        faults.push(differ("mode", octal(found.mode), octal(expected.mode)));
    }
    if (found.uid, found.gid) != (expected.uid, expected.gid) {
        let owner = |meta: &Meta| format!("{}:{}", meta.uid, meta.gid);
        faults.push(differ("owner", owner(found), owner(expected)));
    }
    if found.mtime != expected.mtime {
        let time = |meta: &Meta| format!("{}.{:09}", meta.mtime.sec(), meta.mtime.nsec());
        faults.push(differ("modification time", time(found), time(expected)));
    }
    if found.xattrs != expected.xattrs {
        faults.extend(xattr_faults(&expected.xattrs, &found.xattrs));
    }
    faults
}

fn xattr_faults(expected: &Xattrs, found: &Xattrs) -> Vec<String> {
    let value = |xattrs: &Xattrs, name: &[u8]| -> Option<Box<[u8]>> {
        let mut all = xattrs.iter();
        all.find(|(own, _)| *own == name)
            .map(|(_, value)| value.into())
    };
    let mut faults = Vec::new();
    for (name, expected) in expected.iter() {
        let what = match value(found, name) {
            None => "is missing",
            Some(found) if *found != *expected => "differs from aufs",
            Some(_) => continue,
        };
        faults.push(format!("attribute {} {what}", escape(name)));
    }
    for (name, _) in found.iter() {
        if value(expected, name).is_none() {
            faults.push(format!("attribute {} is not in aufs", escape(name)));
        }
    }
    faults
}

pub(super) fn differ(
    what: &str,
    found: impl std::fmt::Display,
    expected: impl std::fmt::Display,
) -> String {
    format!("{what} is {found}, but {expected} in aufs")
}

/// Whether mode, owner, attributes and flags of two inodes are the same.
pub(super) fn same_attributes(below: &Inode, inode: &Inode) -> bool {
    let kept = |meta: &Meta| (meta.mode, meta.uid, meta.gid);
    let (before, after) = (below.meta(), inode.meta());
    kept(&before) == kept(&after)
        && before.xattrs == after.xattrs
        && below.attribute_flags() == inode.attribute_flags()
}

/// Checks that an inode which no layer changed differs only by what a removed name and reading leave behind: the link
/// count, and the access and change times.
pub(super) fn unchanged(
    (parent, below): (&View, &Inode),
    (child, inode): (&View, &Inode),
    ino: Ino,
) -> Result<(), &'static str> {
    if below.file_type() != inode.file_type() {
        return Err("has a different type than on the parent, but the layer does not contain it");
    }
    if !same_attributes(below, inode) || below.meta().mtime != inode.meta().mtime {
        return Err(
            "has different attributes than on the parent, but the layer does not contain it",
        );
    }
    let same = match inode.file_type() {
        Some(Type::Directory) => parent.names(ino).eq(child.names(ino)),
        _ => {
            below.size() == inode.size()
                && below.target() == inode.target()
                && below.device() == inode.device()
                && parent.extents(ino).eq(child.extents(ino))
        }
    };
    if !same {
        return Err("has different content than on the parent, but the layer does not contain it");
    }
    Ok(())
}
