//! Files of somebody else in directories that are removed whole: what neither this tool nor Docker makes there. Nobody but who put
//! them there can tell what they are worth, so they are named, and nothing is removed before they are elsewhere.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use walkdir::WalkDir;

use super::aufs_side::AufsSide;
use super::beside;
use super::committed;
use super::content::new_files;
use super::error::Error;
use super::expected::CONFIGS;
use super::journal;
use super::progress_file;
use super::since::{Written, read_regular};
use crate::engine::kernel::claim;

/// What the staging directory has besides directories of which more is known.
const IN_STAGE: [&str; 10] = [
    journal::FILE,
    claim::FILE,
    claim::NEW_FILE,
    progress_file::FILE,
    progress_file::NEW_FILE,
    committed::NEW_FILE,
    "image",
    "mnt",
    "verify",
    "removed",
];

/// The driver's files that are no devices' and have a form of their own.
const SCRATCH: &str = ".";

/// In the devicemapper side in place. `written` is what the conversion wrote there: what a disk has made of that is no file of somebody
/// else.
pub(super) fn in_result(
    root: &Path,
    written: &Written,
    aufs: Option<&AufsSide>,
) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    let is_written = |name: &str| written.is_driver_file(name);
    in_home(&root.join("devicemapper"), &is_written, &mut found)?;
    let store = root.join("image/devicemapper");
    let new = new_files((root, &store), aufs)?;
    let others = new.iter().filter(|inner| !is_dockers(inner));
    found.extend(others.map(|inner| store.join(inner)));
    Ok(found)
}

/// In the staging directory, and in the place for configs, which may be in it.
pub(super) fn in_stage(stage: &Path, configs: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for (name, path) in list(stage)? {
        match name.as_str() {
            // What is staged is as good as what is in place, and no file there was read by Docker.
            "devicemapper" => in_home(&path, &|_| true, &mut found)?,
            "containers" => in_configs(&path, &mut found)?,
            "originals" => in_originals(&path, &mut found)?,
            // One that a kill has left is written anew.
            committed::NEW_FILE if path.is_dir() => found.push(path),
            name if IN_STAGE.contains(&name) => {}
            _ => found.push(path),
        }
    }
    if configs == stage {
        return Ok(found);
    }
    for (name, path) in list(configs)? {
        match name.as_str() {
            "containers" => in_configs(&path, &mut found)?,
            "originals" => in_originals(&path, &mut found)?,
            beside::MARK => {}
            _ => found.push(path),
        }
    }
    Ok(found)
}

/// Makes sure that there are none. `words` is the command that goes on.
pub(super) fn expect_none(
    root: &Path,
    files: Vec<PathBuf>,
    words: &'static str,
) -> Result<(), Error> {
    if files.is_empty() {
        return Ok(());
    }
    Err(Error::OthersFiles {
        root: root.to_owned(),
        files,
        words,
    })
}

/// In the driver's home. Source: moby v20.10 `daemon/graphdriver/devmapper/deviceset.go`, `metadataDir` and `loopbackDir`, and
/// `driver.go`, `Get`.
fn in_home(
    home: &Path,
    is_written: &dyn Fn(&str) -> bool,
    found: &mut Vec<PathBuf>,
) -> Result<(), Error> {
    for (name, path) in list(home)? {
        match name.as_str() {
            "metadata" => {
                for (name, path) in list(&path)? {
                    if !is_written(&name) && !is_driver_file(&name, &path)? {
                        found.push(path);
                    }
                }
            }
            "devicemapper" => {
                let parts = list(&path)?.into_iter();
                let others = parts.filter(|(name, _)| !["data", "metadata"].contains(&&**name));
                found.extend(others.map(|(_, path)| path));
            }
            // Mount points.
            "mnt" => found.extend(files_in(&path)?),
            _ => found.push(path),
        }
    }
    Ok(())
}

/// Whether Docker's driver writes such a file: an object in JSON.
fn is_driver_file(name: &str, path: &Path) -> Result<bool, Error> {
    if name.starts_with(SCRATCH) {
        return Ok(true);
    }
    let bytes = read_regular(path)?;
    Ok(bytes.is_some_and(|bytes| serde_json::from_slice::<Map<String, Value>>(&bytes).is_ok()))
}

/// Containers' directories and the files in them that name their driver.
fn in_configs(containers: &Path, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    for (_, container) in list(containers)? {
        let files = list(&container)?.into_iter();
        let others = files.filter(|(name, _)| !CONFIGS.contains(&&**name));
        found.extend(others.map(|(_, path)| path));
    }
    Ok(())
}

/// Originals of those, and directories that were empty.
fn in_originals(originals: &Path, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    for (name, path) in list(originals)? {
        match name.as_str() {
            "containers" => in_configs(&path, found)?,
            "devicemapper" | "image" => found.extend(files_in(&path)?),
            _ => found.push(path),
        }
    }
    Ok(())
}

/// Whether Docker's image store has files of this path. Source: moby v20.10 `image/fs.go` and `layer/filestore.go`.
fn is_dockers(inner: &Path) -> bool {
    let text = inner.to_string_lossy();
    let parts: Vec<&str> = text.split('/').collect();
    // BuildKit's have 25 digits.
    let is_id = |id: &str| id.len() >= 25 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match parts[..] {
        ["imagedb", "content", _, id]
        | ["imagedb", "metadata", _, id, _]
        | ["layerdb", _, id, _] => is_id(id),
        _ => false,
    }
}

/// All in a directory that are none, whatever they are.
fn files_in(top: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in WalkDir::new(top).sort_by_file_name() {
        let entry = entry.map_err(|error| Error::io(top, "read")(error.into()))?;
        if !entry.file_type().is_dir() {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

/// The entries of a directory, in the order of their names; none of what is no directory.
fn list(directory: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let is_directory = directory.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    if !is_directory {
        return Ok(Vec::new());
    }
    let named = |name: &OsStr| (name.to_string_lossy().into_owned(), directory.join(name));
    let listed = fs::read_dir(directory).and_then(|entries| {
        let names = entries.map(|entry| Ok(named(&entry?.file_name())));
        names.collect::<io::Result<Vec<_>>>()
    });
    let mut listed = listed.map_err(Error::io(directory, "read"))?;
    listed.sort();
    Ok(listed)
}
