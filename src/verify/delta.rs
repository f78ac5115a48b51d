//! Digests of the differences between a device and the one it is a snapshot of: one digest of the entries with all
//! their attributes, without the files' bytes and their locations, and one of the bytes.
//!
//! A conversion records them for every device that it has found to match aufs. A device that still has them later is
//! unchanged, whatever happened to aufs; without them, nothing shows which of two differing sides has changed.

use sha2::{Digest, Sha256};

use super::attributes::unchanged;
use super::compare::is_reserved;
use crate::ext4::Ino;
use crate::ext4::read::{Inode, Type, View};

/// The digest of the entries, in hexadecimal digits. Its cost depends on how much the device differs from its parent.
pub(super) fn digest(parent: &View, child: &View) -> String {
    let mut sum = Sha256::new();
    let mut names: Vec<(Ino, &[u8])> = child.changed_names(parent).collect();
    names.sort_unstable();
    for (directory, name) in names {
        add_number(&mut sum, directory.0);
        add_bytes(&mut sum, name);
        add_number(
            &mut sum,
            child.lookup(directory, name).map_or(0, |ino| ino.0),
        );
    }
    add_bytes(&mut sum, b""); // no name is empty: here the inodes begin
    for ino in child.changed_since(parent) {
        if is_reserved(ino) {
            continue;
        }
        let Some(inode) = child.inode(ino) else {
            continue; // it is gone, and with it its names
        };
        let below = parent.inode(ino);
        let is_read_only =
            below.is_some_and(|below| unchanged((parent, below), (child, inode), ino).is_ok());
        if !is_read_only {
            add_number(&mut sum, ino.0);
            add_inode(&mut sum, inode);
        }
    }
    format!("{:x}", sum.finalize())
}

/// The regular files in which the device differs from its parent, with their sizes, in ascending order. A change caused
/// only by reading does not count.
pub(super) fn files<'v>(
    parent: &'v View,
    child: &'v View,
) -> impl Iterator<Item = (Ino, u64)> + use<'v> {
    child.changed_since(parent).filter_map(|ino| {
        let file = child.inode(ino).filter(|_| !is_reserved(ino))?;
        let was = parent.inode(ino);
        let is_own = file.file_type() == Some(Type::Regular)
            && was.is_none_or(|was| unchanged((parent, was), (child, file), ino).is_err());
        is_own.then(|| (ino, file.size()))
    })
}

/// The digest of these files' bytes, in hexadecimal digits, from a CRC-64 of each file. `None`: there are no bytes, or
/// `checksum` does not know all of them.
pub(super) fn digest_of_bytes<E>(
    (parent, child): (&View, &View),
    mut checksum: impl FnMut(Ino, u64) -> Result<Option<u64>, E>,
) -> Result<Option<String>, E> {
    let mut sum = Sha256::new();
    let mut has_bytes = false;
    for (ino, size) in files(parent, child).filter(|&(_, size)| size > 0) {
        let Some(checksum) = checksum(ino, size)? else {
            return Ok(None);
        };
        has_bytes = true;
        add_number(&mut sum, ino.0);
        sum.update(size.to_le_bytes());
        sum.update(checksum.to_le_bytes());
    }
    Ok(has_bytes.then(|| format!("{:x}", sum.finalize())))
}

fn add_inode(sum: &mut Sha256, inode: &Inode) {
    let meta = inode.meta();
    add_bytes(sum, format!("{:?}", inode.file_type()).as_bytes());
    for number in [u32::from(meta.mode), meta.uid, meta.gid] {
        add_number(sum, number);
    }
    for number in [u32::from(inode.links()), inode.attribute_flags()] {
        add_number(sum, number);
    }
    sum.update(inode.size().to_le_bytes());
    sum.update(meta.mtime.sec().to_le_bytes());
    add_number(sum, meta.mtime.nsec());
    add_bytes(sum, inode.target().unwrap_or_default());
    if let Some(number) = inode.device() {
        add_number(sum, number.major);
        add_number(sum, number.minor);
    }
    sum.update((meta.xattrs.iter().count() as u64).to_le_bytes());
    for (name, value) in meta.xattrs.iter() {
        add_bytes(sum, name);
        add_bytes(sum, value);
    }
}

pub(super) fn add_number(sum: &mut Sha256, number: u32) {
    sum.update(number.to_le_bytes());
}

/// Adds bytes preceded by their number, so that no other bytes give the same digest.
pub(super) fn add_bytes(sum: &mut Sha256, bytes: &[u8]) {
    sum.update((bytes.len() as u64).to_le_bytes());
    sum.update(bytes);
}
