//! The pid files that a daemon of the host could use.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::config::pid_files;
use super::finding::Host;

/// All pid files that a daemon of this host could use, each once.
pub(super) fn candidates(host: &Host) -> Vec<PathBuf> {
    let mut seen = Vec::new();
    let mut found = Vec::new();
    let told = std::iter::once(host.pid_file.clone());
    for path in told.chain(pid_files(&host.root)) {
        let key = identity(&path);
        if !seen.contains(&key) {
            seen.push(key);
            found.push(path);
        }
    }
    found
}

/// The directory's identity and the file's name. Two paths of one file have both in common, whether or not the file
/// exists: `/var/run` is often `/run`.
pub(super) fn identity(path: &Path) -> (Result<(u64, u64), PathBuf>, Option<OsString>) {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let found = fs::metadata(dir).map(|meta| (meta.dev(), meta.ino()));
    let name = path.file_name().map(OsStr::to_owned);
    (found.map_err(|_| dir.to_owned()), name)
}
