//! The users of a block device or file, as far as they are visible.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::sys::block::{self, Kind};
use crate::sys::loops;

/// The mount points, visible to this process, of the file systems on a block device.
pub(super) fn mount_points(rdev: u64) -> Vec<PathBuf> {
    let text = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let number = block::number(rdev);
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| parse_mount(line, number.as_bytes()))
        .collect()
}

/// The mount point, if the line is about this device. Source: linux `Documentation/filesystems/proc.rst`, 3.5.
fn parse_mount(line: &[u8], number: &[u8]) -> Option<PathBuf> {
    let mut fields = line.split(|byte| *byte == b' ');
    let is_it = fields.nth(2)? == number;
    let point = OsString::from_vec(fields.nth(1)?.to_vec());
    is_it.then(|| point.into())
}

/// The devices that are built on this one, each by the name that its own kind uses.
pub(super) fn holders(rdev: u64) -> Vec<String> {
    let names = block::holders(rdev).into_iter().map(|holder| {
        let node = Path::new("/dev").join(&holder);
        let mapper = match block::kind(&node) {
            Ok(Kind::Block { rdev }) => block::device_mapper_name(rdev),
            _ => None,
        };
        mapper.map_or_else(|| holder.clone(), |name| format!("/dev/mapper/{name}"))
    });
    names.collect()
}

/// What keeps a block device from being opened exclusively.
pub(super) fn users(rdev: u64) -> String {
    let mounts = mount_points(rdev);
    let mounts = mounts
        .iter()
        .map(|point| format!("mounted on {}", point.display()));
    let holders = holders(rdev)
        .into_iter()
        .map(|name| format!("part of {name}"));
    let swap = is_swap(rdev).then(|| "used as swap".to_owned());
    let found: Vec<_> = mounts.chain(holders).chain(swap).collect();
    if found.is_empty() {
        return "by a process, another mount namespace or one of its partitions".to_owned();
    }
    found.join(", ")
}

fn is_swap(rdev: u64) -> bool {
    let text = fs::read("/proc/swaps").unwrap_or_default();
    let paths = text
        .split(|byte| *byte == b'\n')
        .skip(1)
        .filter_map(|line| line.split(|byte| *byte == b' ').next());
    let mut kinds = paths.map(|path| block::kind(Path::new(std::ffi::OsStr::from_bytes(path))));
    kinds.any(|kind| kind.ok() == Some(Kind::Block { rdev }))
}

/// The loop devices attached to a file or block device, as text; `None` if there are none.
pub(super) fn loop_devices(file: &File) -> std::io::Result<Option<String>> {
    let found = loops::attached_to(file)?;
    let names: Vec<_> = found
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    Ok((!names.is_empty()).then(|| {
        format!(
            "attached as {0}. Next: find out what uses it, or detach it (losetup -d {0})",
            names.join(" ")
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_found_by_device_number() {
        let line =
            b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        assert_eq!(parse_mount(line, b"98:0"), Some("/mnt2".into()));
        assert_eq!(parse_mount(line, b"98:1"), None);
        assert_eq!(parse_mount(b"", b"98:0"), None);
    }
}
