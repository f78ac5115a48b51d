//! One file of a branch: attributes, xattrs, holes, link target. Follows no symbolic link in the last component.

use std::collections::HashSet;
use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, major, minor};
use nix::unistd::{Whence, lseek};

use super::failure::Failure;
use crate::open_path::OpenDirectory;
use crate::sys::Stat;
use crate::tree::{DeviceNumber, Kind, Meta, Regular, Segment, Timestamp, Xattrs};

/// The maximum length of a symbolic link's target in ext4: one block minus the terminating NUL.
/// Source: linux v6.6 fs/ext4/namei.c, `ext4_symlink`.
const MAX_TARGET: usize = 4095;

/// The xattr sets of a branch, each stored once: an image's files have few different ones.
#[derive(Debug, Default)]
pub(super) struct XattrSets(HashSet<Xattrs>);

impl XattrSets {
    fn shared(&mut self, xattrs: Xattrs) -> Xattrs {
        if xattrs.is_empty() {
            return xattrs;
        }
        if let Some(known) = self.0.get(&xattrs) {
            return known.clone();
        }
        self.0.insert(xattrs.clone());
        xattrs
    }
}

/// A name in an open directory of a branch, and what the kernel reports about it.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) directory: &'a OpenDirectory,
    pub(super) name: &'a CStr,
    pub(super) stat: &'a Stat,
}

/// The mode, owner, times and xattrs of a file.
pub(super) fn read_meta(at: Place<'_>, sets: &mut XattrSets) -> Result<Meta, Failure> {
    let stat = at.stat;
    Ok(Meta {
        mode: u16::try_from(stat.mode & 0o7777).expect("twelve bits fit"),
        uid: stat.uid,
        gid: stat.gid,
        atime: timestamp(stat.atime),
        mtime: timestamp(stat.mtime),
        ctime: timestamp(stat.ctime),
        xattrs: sets.shared(read_xattrs(at)?),
    })
}

fn timestamp((sec, nsec): (i64, u32)) -> Timestamp {
    full_timestamp((sec, nsec)).clamped()
}

fn full_timestamp((sec, nsec): (i64, u32)) -> Timestamp {
    // The kernel keeps nanoseconds below one second; a file system that does not would only lose the fraction.
    Timestamp::new(sec, nsec.min(999_999_999))
}

/// Whether a time of a file becomes another one in the tree.
pub(super) fn has_clamped_time(stat: &Stat) -> bool {
    let times = [stat.atime, stat.mtime, stat.ctime];
    times
        .into_iter()
        .any(|time| timestamp(time) != full_timestamp(time))
}

/// The calls for xattrs take no directory and name, and opening a device or a pipe would have effects, so each file has a
/// path below that of the open directory.
fn read_xattrs(at: Place<'_>) -> Result<Xattrs, Failure> {
    let path = at.directory.path_of(at.name);
    let names = match xattr::list(&path) {
        Ok(names) => names,
        Err(error) if error.raw_os_error() == Some(Errno::ENOTSUP as i32) => {
            return Ok(Xattrs::default());
        }
        Err(error) => return Err(Failure::io("list its extended attributes", error)),
    };
    let names: Vec<_> = names.collect();
    names
        .iter()
        .filter(|name| !is_file_systems_own(name, &names))
        .map(|name| match xattr::get(&path, name) {
            Ok(Some(value)) => Ok((name.as_bytes().into(), value.into())),
            Ok(None) => Err(Failure::Changed),
            Err(error) => Err(Failure::io("read an extended attribute", error)),
        })
        .collect()
}

/// Whether an xattr describes how the file system below stores the file, rather than the layer's content.
///
/// btrfs shows a file's properties as `btrfs.compression` and the like, which no other file system accepts. XFS shows
/// each ACL to root a second time under its on-disk name. Sources: linux v6.6 `fs/btrfs/props.c`; `fs/xfs/xfs_xattr.c`,
/// `xfs_xattr_put_listent`.
fn is_file_systems_own(name: &OsStr, all: &[OsString]) -> bool {
    let twin = match name.as_bytes() {
        b"trusted.SGI_ACL_FILE" => "system.posix_acl_access",
        b"trusted.SGI_ACL_DEFAULT" => "system.posix_acl_default",
        name => return name.starts_with(b"btrfs."),
    };
    all.iter().any(|other| other == twin)
}

/// The kind of a file. A directory is returned empty.
pub(super) fn read_kind(at: Place<'_>) -> Result<Kind, Failure> {
    let stat = at.stat;
    let format = SFlag::from_bits_truncate(stat.mode) & SFlag::S_IFMT;
    Ok(match format {
        SFlag::S_IFDIR => Kind::Directory(Box::default()),
        SFlag::S_IFREG => Kind::Regular(Regular {
            size: stat.size,
            segments: read_segments(at)?.map(Box::new),
        }),
        SFlag::S_IFLNK => Kind::Symlink(read_target(at)?),
        SFlag::S_IFCHR => Kind::CharDevice(device_number(stat)?),
        SFlag::S_IFBLK => Kind::BlockDevice(device_number(stat)?),
        SFlag::S_IFIFO => Kind::Fifo,
        SFlag::S_IFSOCK => Kind::Socket,
        _ => return Err(Failure::BadType { mode: stat.mode }),
    })
}

fn device_number(stat: &Stat) -> Result<DeviceNumber, Failure> {
    let half = |number| u32::try_from(number).map_err(|_| Failure::BadType { mode: stat.mode });
    Ok(DeviceNumber {
        major: half(major(stat.node))?,
        minor: half(minor(stat.node))?,
    })
}

fn read_target(at: Place<'_>) -> Result<Box<[u8]>, Failure> {
    let target = match readlinkat(at.directory, at.name) {
        Ok(target) => target.into_vec(),
        // It is no longer a symbolic link.
        Err(Errno::EINVAL) => return Err(Failure::Changed),
        Err(errno) => return Err(Failure::errno("read the symbolic link", errno)),
    };
    if target.is_empty() || target.len() > MAX_TARGET {
        return Err(Failure::BadTarget {
            length: target.len(),
        });
    }
    Ok(target.into())
}

/// The runs of data of a file that has fewer blocks than its size needs; `None` for a file without holes.
fn read_segments(at: Place<'_>) -> Result<Option<Vec<Segment>>, Failure> {
    let stat = at.stat;
    if stat.blocks.saturating_mul(512) >= stat.size {
        return Ok(None);
    }
    let file = open_same(at)?;
    let segments = map_data(&file, stat.size)
        .map_err(|errno| Failure::errno("find its holes", errno))?
        .ok_or(Failure::Changed)?;
    let whole = [Segment {
        start: 0,
        end: stat.size,
    }];
    Ok((segments != whole).then_some(segments))
}

/// Opens the regular file to which `stat` belongs, without changing its access time.
fn open_same(at: Place<'_>) -> Result<File, Failure> {
    // O_NONBLOCK: if a fifo has taken the file's place, opening it must not wait for a writer.
    let flags = OFlag::O_RDONLY
        | OFlag::O_NOFOLLOW
        | OFlag::O_NOATIME
        | OFlag::O_NONBLOCK
        | OFlag::O_CLOEXEC;
    let file: File = match openat(at.directory, at.name, flags, Mode::empty()) {
        Ok(file) => file.into(),
        Err(Errno::ELOOP) => return Err(Failure::Changed),
        Err(errno) => return Err(Failure::errno("open", errno)),
    };
    let now = file
        .metadata()
        .map(|now| Stat::from(&now))
        .map_err(|error| Failure::io("stat", error))?;
    let identity = |of: &Stat| (of.device, of.inode, of.mode, of.size, of.mtime, of.ctime);
    if identity(&now) != identity(at.stat) {
        return Err(Failure::Changed);
    }
    Ok(file)
}

/// The runs of data; `None` if they do not fit the size, because the file shrank meanwhile.
fn map_data(file: &File, size: u64) -> nix::Result<Option<Vec<Segment>>> {
    let mut segments = Vec::new();
    let mut at = 0;
    while at < size {
        let offset = i64::try_from(at).map_err(|_| Errno::EOVERFLOW)?;
        let start = match lseek(file, offset, Whence::SeekData) {
            Ok(start) => start,
            // From here on there is only a hole.
            Err(Errno::ENXIO) => break,
            Err(errno) => return Err(errno),
        };
        let end = match lseek(file, start, Whence::SeekHole) {
            Ok(end) => end,
            Err(Errno::ENXIO) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let (start, end) = (unsigned(start)?, unsigned(end)?.min(size));
        if start < at || start >= end {
            return Ok(None);
        }
        segments.push(Segment { start, end });
        at = end;
    }
    Ok(Some(segments))
}

fn unsigned(offset: i64) -> nix::Result<u64> {
    u64::try_from(offset).map_err(|_| Errno::EOVERFLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_systems_own_attributes_are_told_from_the_layers() {
        let is_own = |name: &str, others: &[&str]| {
            let all: Vec<_> = others.iter().map(OsString::from).collect();
            is_file_systems_own(OsStr::new(name), &all)
        };
        assert!(is_own("btrfs.compression", &[]));
        assert!(is_own("trusted.SGI_ACL_FILE", &["system.posix_acl_access"]));
        assert!(is_own(
            "trusted.SGI_ACL_DEFAULT",
            &["user.a", "system.posix_acl_default"]
        ));
        for layers in ["user.btrfs.a", "trusted.SGI_ACL", "security.selinux"] {
            assert!(!is_own(layers, &["system.posix_acl_access"]), "{layers}");
        }
        assert!(!is_own(
            "trusted.SGI_ACL_FILE",
            &["system.posix_acl_default"]
        ));
    }
}
