//! Makes files and names durable.
//!
//! A file's name is durable only once its directory was synced, whatever was done to the file itself. After a crash, a
//! file that was replaced here has its old bytes or its new ones.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use walkdir::WalkDir;

use crate::path_error::PathError;

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), PathError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(PathError::on(path, "sync"))
}

/// Makes the names in a file's directory durable, including the file's own.
pub(crate) fn sync_directory_of(path: &Path) -> Result<(), PathError> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => sync_directory(Path::new(".")),
    }
}

/// Syncs the file system: one call for thousands of small files instead of one call each.
pub(crate) fn sync_file_system(path: &Path) -> Result<(), PathError> {
    let directory = File::open(path).map_err(PathError::on(path, "open"))?;
    nix::unistd::syncfs(&directory)
        .map_err(|errno| PathError::on(path, "sync its file system")(errno.into()))
}

/// Syncs each file: needed if the kernel does not report whether a file's data reached the disk unless that file itself
/// is synced.
pub(crate) fn sync_each_file(path: &Path) -> Result<(), PathError> {
    for entry in WalkDir::new(path).follow_links(false) {
        let entry = entry.map_err(|error| PathError::on(path, "read")(error.into()))?;
        if entry.file_type().is_file() {
            File::open(entry.path())
                .and_then(|file| file.sync_data())
                .map_err(PathError::on(entry.path(), "sync"))?;
        }
    }
    Ok(())
}

/// Creates a file that its owner alone can read.
pub(crate) fn create_new(path: &Path) -> Result<File, PathError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(PathError::on(path, "create"))
}

/// Creates such a file with these bytes. They are durable on return, the name is not.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    let mut file = create_new(path)?;
    file.write_all(bytes)
        .map_err(PathError::on(path, "write"))?;
    file.sync_all().map_err(PathError::on(path, "sync"))
}

/// Replaces or creates such a file by way of `new`, a name that is nobody else's. Durable on return.
pub(crate) fn replace(path: &Path, new: &Path, bytes: &[u8]) -> Result<(), PathError> {
    // A run that was killed may have left it, with some of the bytes.
    remove_if_any(new)?;
    write_new(new, bytes)?;
    fs::rename(new, path).map_err(PathError::on(new, "rename"))?;
    sync_directory_of(path)
}

/// Removes a file, if it exists. Its name may come back after a crash.
pub(crate) fn remove_if_any(path: &Path) -> Result<(), PathError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(PathError::on(path, "remove")),
    }
}
