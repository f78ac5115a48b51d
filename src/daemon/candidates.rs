//! Pid files that a daemon of the host could use.

use std::path::PathBuf;

use super::config::pid_files;
use super::finding::Host;
use super::pid_files::identity;

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
