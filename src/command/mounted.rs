//! Checks that no layer is read through a mount point: what an operator mounted there is not part of the layer.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::error::Error;
use crate::daemon::Host;
use crate::mount_table::Table;

/// Directories that are read completely. Each may itself be a mount point or a link: in that case, it holds Docker's
/// own files.
const WHOLE: [&str; 5] = [
    "aufs/diff",
    "aufs/layers",
    "image/aufs",
    "image/devicemapper",
    "devicemapper/metadata",
];

/// Checks that nothing is mounted inside the parts of a root that are read.
///
/// # Errors
///
/// [`Error::Mounted`] with all mounts.
pub(super) fn expect_unmounted(root: &Path, host: &Host) -> Result<(), Error> {
    let table = Table::here(&host.proc);
    let mut mounts = Vec::new();
    for name in WHOLE {
        if let Ok(top) = root.join(name).canonicalize() {
            mounts.extend(table.inside(&top, &|inner, _| inner != Path::new("")));
        }
    }
    if let Ok(top) = root.join("containers").canonicalize() {
        mounts.extend(table.inside(&top, &|inner, _| is_read(inner)));
    }
    if mounts.is_empty() {
        Ok(())
    } else {
        Err(Error::Mounted { mounts })
    }
}

/// Whether a path inside `containers` is read. Of a container, only its configs are read, not what a daemon mounts
/// beside them (`shm`, `mounts`, `secrets`).
fn is_read(inner: &Path) -> bool {
    let names: Vec<_> = inner.iter().map(OsStrExt::as_bytes).collect();
    match names[..] {
        [_] => true,
        [_, file] => file.starts_with(b"config.") || file == b"hostconfig.json",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_shared_memory_is_not_read() {
        for (inner, read) in [
            ("", false),
            ("abc", true),
            ("abc/config.v2.json", true),
            ("abc/hostconfig.json", true),
            ("abc/shm", false),
            ("abc/mounts/shm", false),
            ("abc/secrets", false),
        ] {
            assert_eq!(is_read(Path::new(inner)), read, "{inner}");
        }
    }
}
