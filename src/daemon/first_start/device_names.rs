//! Names of given devices that may belong to another disk after the next boot.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::outlook::Finding;
use crate::devicemapper::Target;
use crate::devicemapper::storage_option::device_of;
use crate::tree::shown;

/// Directories of names that stay, the best first. Source: udev(7), `60-persistent-storage.rules`.
const LASTING: [&str; 3] = ["/dev/disk/by-id", "/dev/mapper", "/dev/disk/by-uuid"];

/// Findings about the pool's devices.
pub(super) fn findings(target: &Target) -> Vec<Finding> {
    target
        .storage_opts
        .iter()
        .filter_map(|option| {
            let device = Path::new(device_of(option)?);
            // The kernel numbers what is directly in /dev in the order in which it finds it.
            if device.parent() != Some(Path::new("/dev")) {
                return None;
            }
            let other = lasting_name(device).map_or_else(
                || "an LVM volume, or a name in /dev/disk/by-id or /dev/mapper".to_owned(),
                |name| shown(&name),
            );
            Some(Finding::warning(
                "device-name",
                format!(
                    "{option}: after a boot {} can be another disk, and Docker then does not find the pool or writes \
                     to that disk: use {other} instead",
                    shown(device)
                ),
            ))
        })
        .collect()
}

/// A name of the device that stays, if it has one.
fn lasting_name(device: &Path) -> Option<PathBuf> {
    let number = |path: &Path| fs::metadata(path).ok().map(|meta| meta.rdev());
    let wanted = number(device).filter(|rdev| *rdev != 0)?;
    LASTING.iter().find_map(|directory| {
        let entries = fs::read_dir(directory).ok()?;
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        names.sort_unstable();
        names.into_iter().find(|name| number(name) == Some(wanted))
    })
}
