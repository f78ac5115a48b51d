//! The lines of `mountinfo`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A line of `mountinfo`.
#[derive(Clone, Debug)]
pub(crate) struct Mount {
    pub(crate) id: u64,
    /// The id of the mount that it is mounted on.
    pub(crate) parent: u64,
    /// The device of the file system: `major:minor`.
    pub(crate) device: Vec<u8>,
    /// The directory of that file system that is mounted.
    pub(crate) top: PathBuf,
    /// The mount point, seen from the root of the process.
    pub(crate) point: PathBuf,
    /// The type of the file system.
    pub(crate) kind: Vec<u8>,
}

/// The mount points in a `mountinfo` file, in the same order.
pub(crate) fn mount_points(text: &[u8]) -> Vec<PathBuf> {
    parse(text).map(|mount| mount.point).collect()
}

/// The mount points of the file systems on a block device, given as `major:minor`.
pub(crate) fn mount_points_of(text: &[u8], device: &str) -> Vec<PathBuf> {
    let mounts = parse(text).filter(|mount| mount.device == device.as_bytes());
    mounts.map(|mount| mount.point).collect()
}

/// If the mount on `point` in a `mountinfo` file shows a directory of a file system other than its root: that
/// directory, and the file system's device as `major:minor`. This applies to bind mounts and also to subvolumes of
/// btrfs.
pub(crate) fn directory_at(text: &[u8], point: &Path) -> Option<(PathBuf, Vec<u8>)> {
    let topmost = parse(text).filter(|mount| mount.point == point).last()?;
    (topmost.top != Path::new("/")).then_some((topmost.top, topmost.device))
}

/// The other paths of a directory of a file system, according to a `mountinfo` file. The file system is given by its
/// device.
pub(crate) fn paths_of(text: &[u8], (directory, device): (&Path, &[u8])) -> Vec<PathBuf> {
    let mounts = parse(text).filter(|mount| mount.device == device);
    mounts
        .filter_map(|mount| {
            let inner = directory.strip_prefix(&mount.top).ok()?;
            (inner != Path::new("")).then(|| mount.point.join(inner))
        })
        .collect()
}

/// The mounts in a `mountinfo` file, in the same order.
pub(crate) fn parse(text: &[u8]) -> impl Iterator<Item = Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_mount)
}

/// Parses a line. Source: linux `Documentation/filesystems/proc.rst`, 3.5: id, parent, device, root, mount point; the
/// type follows a single dash after a varying number of fields.
fn parse_mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let device = fields.next()?.to_vec();
    let mut path = || Some(PathBuf::from(OsString::from_vec(unescape(fields.next()?))));
    let (top, point) = (path()?, path()?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?.to_vec();
    Some(Mount {
        id,
        parent,
        device,
        top,
        point,
        kind,
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits
            .and_then(|digits| u8::from_str_radix(digits, 8).ok())
            .filter(|_| byte == b'\\');
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let line =
            b"36 35 98:0 /mnt1 /a\\040b\\134c rw,noatime master:1 shared:2 - aufs none rw,si=1";
        let mount = parse_mount(line).unwrap();
        assert_eq!((mount.id, mount.parent), (36, 35));
        assert_eq!(mount.top, Path::new("/mnt1"));
        assert_eq!(mount.point, Path::new("/a b\\c"));
        assert_eq!(mount.kind, b"aufs");
        assert!(parse_mount(b"").is_none());
        assert!(parse_mount(b"1 2 3 4 /x rw").is_none());
    }
}
