//! The tree of a directory as it lies there.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::stat::{major, minor};
use sha2::{Digest, Sha256};

use super::merged::{Entry, Kind, MergedTree, join};

/// Everything in `dir` on the file system of `dir`.
pub fn walk(dir: &Path) -> MergedTree {
    let mut entries = BTreeMap::new();
    add(dir, b"/".to_vec(), &mut entries);
    MergedTree::grouped(entries)
}

fn add(file: &Path, path: Vec<u8>, entries: &mut BTreeMap<Vec<u8>, (Entry, (u64, u64))>) {
    let stat = fs::symlink_metadata(file).unwrap();
    if stat.is_dir() {
        for (name, _) in list(file) {
            add(&file.join(os(&name)), join(&path, &name), entries);
        }
    }
    entries.insert(path, (entry(file), (stat.dev(), stat.ino())));
}

/// The names in a directory with what they are, ascending.
pub fn list(dir: &Path) -> BTreeMap<Vec<u8>, Metadata> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_vec(), entry.metadata().unwrap())
        })
        .collect()
}

/// One file, without its link group.
pub fn entry(file: &Path) -> Entry {
    let stat = fs::symlink_metadata(file).unwrap();
    Entry {
        kind: kind(file, &stat),
        mode: stat.mode() & 0o7777,
        uid: stat.uid(),
        gid: stat.gid(),
        mtime: i128::from(stat.mtime()) * 1_000_000_000 + i128::from(stat.mtime_nsec()),
        xattrs: xattrs(file),
        group: None,
    }
}

fn kind(file: &Path, stat: &Metadata) -> Kind {
    let device = || {
        let half = |number| u32::try_from(number).unwrap();
        (half(major(stat.rdev())), half(minor(stat.rdev())))
    };
    let of = stat.file_type();
    if of.is_dir() {
        Kind::Directory
    } else if of.is_file() {
        Kind::Regular {
            size: stat.len(),
            sha256: sha256(file),
        }
    } else if of.is_symlink() {
        Kind::Symlink(fs::read_link(file).unwrap().into_os_string().into_vec())
    } else if of.is_char_device() {
        Kind::Char(device().0, device().1)
    } else if of.is_block_device() {
        Kind::Block(device().0, device().1)
    } else if of.is_fifo() {
        Kind::Fifo
    } else {
        assert!(of.is_socket(), "{}", file.display());
        Kind::Socket
    }
}

/// The SHA-256 of a file's content in hexadecimal.
pub fn sha256(file: &Path) -> String {
    let mut digest = Sha256::new();
    io::copy(&mut File::open(file).unwrap(), &mut digest).unwrap();
    format!("{:x}", digest.finalize())
}

fn xattrs(file: &Path) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    xattr::list(file)
        .unwrap()
        // xfs shows an ACL by this name too. Source: linux v6.6 fs/xfs/xfs_xattr.c, `xfs_xattr_put_listent`.
        .filter(|name| !name.as_bytes().starts_with(b"trusted.SGI_ACL_"))
        .map(|name| {
            let value = xattr::get(file, &name).unwrap();
            (name.into_vec(), Some(value.unwrap()))
        })
        .collect()
}

/// Bytes as a path component.
pub fn os(name: &[u8]) -> &std::ffi::OsStr {
    std::ffi::OsStr::from_bytes(name)
}
