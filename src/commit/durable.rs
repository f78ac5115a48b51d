//! Makes files and names durable.

use std::fs::{self, File};
use std::path::Path;

use walkdir::WalkDir;

use super::error::Error;

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(Error::io(path, "sync"))
}

/// Syncs the file system: one call for thousands of small files instead of one call each.
pub(super) fn sync_file_system(path: &Path) -> Result<(), Error> {
    let directory = File::open(path).map_err(Error::io(path, "open"))?;
    nix::unistd::syncfs(&directory)
        .map_err(|errno| Error::io(path, "sync the file system of")(errno.into()))
}

/// Syncs each file: needed if the kernel does not report whether a file's data reached the disk unless that file itself
/// is synced.
pub(super) fn sync_each_file(path: &Path) -> Result<(), Error> {
    for entry in WalkDir::new(path).follow_links(false) {
        let entry = entry.map_err(|error| Error::io(path, "read")(error.into()))?;
        if entry.file_type().is_file() {
            File::open(entry.path())
                .and_then(|file| file.sync_data())
                .map_err(Error::io(entry.path(), "sync"))?;
        }
    }
    Ok(())
}

pub(super) fn open_new(path: &Path) -> Result<File, Error> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io(path, "create"))
}
