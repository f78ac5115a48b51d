//! Unpacks the archives in `fixtures/`.

use std::path::Path;
use std::process::Command;

use super::scratch::scratch;
use tempfile::TempDir;

/// The content of an archive, with owners, xattrs and device nodes; needs root, tar, xz and zstd.
pub fn unpack(archive: &str) -> TempDir {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(archive);
    let dir = scratch();
    let status = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"])
        .arg(&archive)
        .arg("-C")
        .arg(dir.path())
        .status()
        .expect("tar is installed");
    assert!(status.success(), "{}: tar: {status}", archive.display());
    dir
}
