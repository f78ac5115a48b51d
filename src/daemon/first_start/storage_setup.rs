//! Settings that docker-storage-setup writes.
//!
//! `docker-storage-setup.service` runs before `docker.service` and writes `DOCKER_STORAGE_OPTIONS`, as its manual page
//! says.

use std::path::Path;

use super::outlook::Finding;
use crate::daemon::config::HostFiles;
use crate::tree::shown;

/// What it reads.
const SOURCE: &str = "/etc/sysconfig/docker-storage-setup";

/// What it writes.
pub(super) const WRITTEN: &str = "/etc/sysconfig/docker-storage";

/// Its units.
const UNITS: [&str; 2] = [
    "/usr/lib/systemd/system/docker-storage-setup.service",
    "/etc/systemd/system/docker-storage-setup.service",
];

/// The command after which it writes nothing any more.
pub(super) const MASK: &str = "systemctl mask docker-storage-setup.service";

/// Whether it works on this host.
pub(super) fn is_in_use(files: &HostFiles) -> bool {
    let mask = files.resolve(Path::new(UNITS[1])).unwrap_or_default();
    let is_masked = mask == Path::new("/dev/null");
    let mut paths = UNITS.iter().chain([&SOURCE]).map(Path::new);
    !is_masked && paths.any(|path| files.exists(path))
}

/// What the operator should know about it.
pub(super) fn findings(files: &HostFiles) -> Vec<Finding> {
    if !is_in_use(files) {
        return Vec::new();
    }
    let message = format!(
        "{}: is written by docker-storage-setup from {} before Docker starts: it can undo a change there, and with \
         STORAGE_DRIVER=devicemapper it sets up an LVM pool of its own: `{MASK}` before Docker is started, then change \
         the first file",
        shown(&files.place(Path::new(WRITTEN))),
        shown(&files.place(Path::new(SOURCE)))
    );
    vec![Finding::warning("storage-setup", message)]
}
