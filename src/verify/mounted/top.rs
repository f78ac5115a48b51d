//! Checks what is beside a layer's tree on its device: the mark by which Docker recognizes the chain's first layer.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

use crate::devicemapper::{ID_FILE, ROOTFS};
use crate::docker::CacheId;
use crate::tree::escape;
use crate::verify::layer_report::Faults;

/// The faults in a device's root directory. `first` is the chain's first layer, if known.
pub(super) fn faults(root: &Path, first: Option<&CacheId>) -> Faults {
    let mut faults = Faults::default();
    let attributes = fs::symlink_metadata(root)
        .map(|meta| (meta.permissions().mode() & 0o7777, meta.uid(), meta.gid()));
    if !matches!(attributes, Ok((0o755, 0, 0))) {
        faults.push("/ (beside rootfs): does not have the attributes that mkfs gives it");
    }
    for name in names(root, &mut faults) {
        if name != ROOTFS.as_bytes() && name != ID_FILE.as_bytes() {
            faults.push(format_args!(
                "{} (beside rootfs): does not belong on the device",
                escape(&name)
            ));
        }
    }
    if let Some(first) = first
        && let Err(what) = mark_is(&root.join(ID_FILE), first.as_str().as_bytes())
    {
        faults.push(format_args!("{ID_FILE} (beside rootfs): {what}"));
    }
    faults
}

/// The faults of the base device, which must contain nothing at all.
pub(super) fn base_faults(root: &Path, mut faults: Faults) -> Faults {
    let mut unread = Faults::default();
    for name in names(root, &mut unread) {
        faults.push(format_args!(
            "{} does not belong on the base device",
            escape(&name)
        ));
    }
    faults
}

fn names(root: &Path, faults: &mut Faults) -> Vec<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt;
    // Only a few names are legitimate.
    const MOST: usize = 1000;
    let listing = fs::read_dir(root).map(|listing| listing.take(MOST));
    let names = listing.and_then(|listing| {
        listing
            .map(|entry| Ok(entry?.file_name().into_vec()))
            .collect()
    });
    names.unwrap_or_else(|error: std::io::Error| {
        faults.push(format_args!("/ (beside rootfs): cannot be listed: {error}"));
        Vec::new()
    })
}

fn mark_is(path: &Path, id: &[u8]) -> Result<(), &'static str> {
    let mark = File::options()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path);
    let mark = mark.map_err(|_| "is missing")?;
    let meta = mark.metadata().map_err(|_| "cannot be read")?;
    if !meta.is_file() || meta.len() != id.len() as u64 {
        return Err("is not a file with the layer's id");
    }
    if (meta.mode() & 0o7777, meta.uid(), meta.gid()) != (0o600, 0, 0) {
        return Err("does not have the attributes that it was given");
    }
    let mut found = Vec::new();
    let read = mark.take(id.len() as u64).read_to_end(&mut found);
    read.map_err(|_| "cannot be read")?;
    if found != id {
        return Err("does not contain the layer's id");
    }
    Ok(())
}
