//! One file of a branch: attributes, xattrs, holes, link target. Follows no symbolic link in the last component.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, major, minor};
use nix::unistd::{Whence, lseek};

use super::error::Error;
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

/// The mode, owner, times and xattrs of the file at `path`, whose `lstat` is `stat`.
pub(super) fn read_meta(path: &Path, stat: &Stat, sets: &mut XattrSets) -> Result<Meta, Error> {
    Ok(Meta {
        mode: u16::try_from(stat.mode & 0o7777).expect("twelve bits fit"),
        uid: stat.uid,
        gid: stat.gid,
        atime: timestamp(stat.atime),
        mtime: timestamp(stat.mtime),
        ctime: timestamp(stat.ctime),
        xattrs: sets.shared(read_xattrs(path)?),
    })
}

fn timestamp((sec, nsec): (i64, u32)) -> Timestamp {
    // The kernel keeps nanoseconds below one second; a file system that does not would only lose the fraction.
    Timestamp::new(sec, nsec.min(999_999_999))
}

fn read_xattrs(path: &Path) -> Result<Xattrs, Error> {
    let names = match xattr::list(path) {
        Ok(names) => names,
        Err(error) if error.raw_os_error() == Some(Errno::ENOTSUP as i32) => {
            return Ok(Xattrs::default());
        }
        Err(error) => return Err(Error::from_io("list its extended attributes", path, error)),
    };
    let names: Vec<_> = names.collect();
    names
        .iter()
        .filter(|name| !is_file_systems_own(name, &names))
        .map(|name| match xattr::get(path, name) {
            Ok(Some(value)) => Ok((name.as_bytes().into(), value.into())),
            Ok(None) => Err(changed(path)),
            Err(error) => Err(Error::from_io("read an extended attribute", path, error)),
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

/// The kind of the file at `path`. A directory is returned empty.
pub(super) fn read_kind(path: &Path, stat: &Stat) -> Result<Kind, Error> {
    let format = SFlag::from_bits_truncate(stat.mode) & SFlag::S_IFMT;
    Ok(match format {
        SFlag::S_IFDIR => Kind::Directory(Box::default()),
        SFlag::S_IFREG => Kind::Regular(Regular {
            size: stat.size,
            segments: read_segments(path, stat)?.map(Box::new),
        }),
        SFlag::S_IFLNK => Kind::Symlink(read_target(path)?),
        SFlag::S_IFCHR => Kind::CharDevice(device_number(path, stat)?),
        SFlag::S_IFBLK => Kind::BlockDevice(device_number(path, stat)?),
        SFlag::S_IFIFO => Kind::Fifo,
        SFlag::S_IFSOCK => Kind::Socket,
        _ => return Err(bad_type(path, stat)),
    })
}

fn bad_type(path: &Path, stat: &Stat) -> Error {
    Error::BadType {
        path: path.to_owned(),
        mode: stat.mode,
    }
}

fn device_number(path: &Path, stat: &Stat) -> Result<DeviceNumber, Error> {
    let half = |number| u32::try_from(number).map_err(|_| bad_type(path, stat));
    Ok(DeviceNumber {
        major: half(major(stat.node))?,
        minor: half(minor(stat.node))?,
    })
}

fn read_target(path: &Path) -> Result<Box<[u8]>, Error> {
    let target = match path.read_link() {
        Ok(target) => target.into_os_string().into_vec(),
        // EINVAL: it is no longer a symbolic link.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return Err(changed(path));
        }
        Err(error) => return Err(Error::from_io("read the symbolic link", path, error)),
    };
    if target.is_empty() || target.len() > MAX_TARGET {
        return Err(Error::BadTarget {
            path: path.to_owned(),
            length: target.len(),
        });
    }
    Ok(target.into())
}

/// The runs of data of a file that has fewer blocks than its size needs; `None` for a file without holes.
fn read_segments(path: &Path, stat: &Stat) -> Result<Option<Vec<Segment>>, Error> {
    if stat.blocks.saturating_mul(512) >= stat.size {
        return Ok(None);
    }
    let file = open_same(path, stat)?;
    let segments = map_data(&file, stat.size)
        .map_err(|errno| Error::from_io("find its holes", path, errno.into()))?
        .ok_or_else(|| changed(path))?;
    let whole = [Segment {
        start: 0,
        end: stat.size,
    }];
    Ok((segments != whole).then_some(segments))
}

/// Opens the regular file to which `stat` belongs, without changing its access time.
fn open_same(path: &Path, stat: &Stat) -> Result<File, Error> {
    // O_NONBLOCK: if a fifo has taken the file's place, opening it must not wait for a writer.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NOATIME | OFlag::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(errno) if errno == Errno::ELOOP as i32 => changed(path),
            _ => Error::from_io("open", path, error),
        })?;
    let now = file
        .metadata()
        .map(|now| Stat::from(&now))
        .map_err(|error| Error::from_io("stat", path, error))?;
    let identity = |of: &Stat| (of.device, of.inode, of.mode, of.size, of.mtime, of.ctime);
    if identity(&now) != identity(stat) {
        return Err(changed(path));
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

fn changed(path: &Path) -> Error {
    Error::Changed {
        path: path.to_owned(),
    }
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
