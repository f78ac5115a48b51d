//! Somebody else's files in directories that are removed as a whole: files that neither this tool nor Docker makes
//! there. Only the person who put them there knows their value, so they are listed, and nothing is removed until they
//! have been moved elsewhere.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::aufs_side::AufsSide;
use super::config_paths::CONFIGS;
use super::content::new_files;
use super::error::Error;
use super::file_digests::FileDigests;
use super::journal::JournalState;
use super::regular_files::read_regular;
use super::removal::GOING;
use super::state::State;
use super::store_files::{is_digest, is_dockers, is_random};
use super::walk::walk;
use super::{commit_record, progress_file, second_place};
use crate::devicemapper::driver_files::{BASE_FILE, DEVICE_SET_FILE, TRANSACTION_FILE};
use crate::engine::kernel::claim;
use crate::path_kind::is_directory;
use crate::staging::JOURNAL;

/// The files of the staging directory.
const IN_STAGE: [&str; 6] = [
    JOURNAL,
    claim::FILE,
    claim::NEW_FILE,
    progress_file::FILE,
    progress_file::NEW_FILE,
    // A file left by a kill is rewritten.
    commit_record::NEW_FILE,
];

/// The prefix of the driver's file before it is renamed; a number follows.
const SCRATCH: &str = ".tmp";

/// What the driver records about a device in its file.
const OF_DEVICE: [&str; 5] = [
    "device_id",
    "size",
    "transaction_id",
    "initialized",
    "deleted",
];

/// Somebody else's files in the devicemapper side in place. `written` is what the conversion wrote there: such a file
/// that a disk has altered is not somebody else's.
pub(super) fn in_result(
    root: &Path,
    written: &FileDigests,
    aufs: Option<&AufsSide>,
) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    let is_written = |name: &str| written.is_driver_file(name);
    in_home(&root.join("devicemapper"), &is_written, &mut found)?;
    in_store(root, &root.join("image/devicemapper"), aufs, &mut found)?;
    Ok(found)
}

/// Somebody else's files in the staging directory of `root`, and in the place for configs, which may be inside it.
/// `story` is what the journal says.
pub(super) fn in_stage(
    root: &Path,
    (stage, configs): (&Path, &Path),
    story: Option<&JournalState>,
) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    let switching = story.and_then(|story| story.switching.as_ref());
    let is_staged = |name: &str| {
        is_device(root, name)
            || switching.is_some_and(|switching| switching.written.is_driver_file(name))
    };
    for (name, path) in list(stage)? {
        match name.as_str() {
            // A kill or a power cut may have left anything in these files.
            "devicemapper" => in_home(&path, &is_staged, &mut found)?,
            "image" => {
                let aufs = switching.and_then(|switching| switching.aufs.as_ref());
                in_store(root, &path, aufs, &mut found)?;
            }
            "containers" => in_configs(&path, &mut found)?,
            "originals" => in_originals(&path, &mut found)?,
            // Mount points.
            "mnt" | "verify" => found.extend(files_in(&path)?),
            "removed" => in_removed(&path, story, &mut found)?,
            name if IN_STAGE.contains(&name) && !path.is_dir() => {}
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
            second_place::MARK => {}
            _ => found.push(path),
        }
    }
    Ok(found)
}

/// Checks that there are none. `words` is the command that continues.
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
        is_begun: false,
    })
}

/// Somebody else's files in the driver's home. Source: moby v20.10 `daemon/graphdriver/devmapper/deviceset.go`,
/// `metadataDir` and `loopbackDir`, and `driver.go`, `Get`.
fn in_home(
    home: &Path,
    is_written: &dyn Fn(&str) -> bool,
    found: &mut Vec<PathBuf>,
) -> Result<(), Error> {
    for (name, path) in list(home)? {
        match name.as_str() {
            _ if !is_directory(&path) => found.push(path),
            "metadata" => {
                for (name, path) in list(&path)? {
                    let is_written = is_written(&name) && !is_directory(&path);
                    if !is_written && !is_driver_file(&name, &path)? {
                        found.push(path);
                    }
                }
            }
            "devicemapper" => {
                let parts = list(&path)?.into_iter();
                let is_pools = |(name, path): &(String, PathBuf)| {
                    ["data", "metadata"].contains(&&**name) && !is_directory(path)
                };
                let others = parts.filter(|part| !is_pools(part));
                found.extend(others.map(|(_, path)| path));
            }
            // Mount points.
            "mnt" => found.extend(files_in(&path)?),
            _ => found.push(path),
        }
    }
    Ok(())
}

/// Whether Docker's driver writes such a file: what it records about a device, under any name.
fn is_driver_file(name: &str, path: &Path) -> Result<bool, Error> {
    if name.strip_prefix(SCRATCH).is_some_and(is_random) {
        return Ok(path.symlink_metadata().is_ok_and(|meta| meta.is_file()));
    }
    let Some(bytes) = read_regular(path)? else {
        return Ok(false);
    };
    let noted = serde_json::from_slice::<Map<String, Value>>(&bytes);
    Ok(noted.is_ok_and(|noted| noted.keys().all(|key| OF_DEVICE.contains(&&**key))))
}

/// Whether a conversion of this root writes a file of this name into the driver's metadata directory.
fn is_device(root: &Path, name: &str) -> bool {
    let id = name.strip_suffix("-init").unwrap_or(name);
    [BASE_FILE, DEVICE_SET_FILE, TRANSACTION_FILE].contains(&name)
        || is_digest(id)
        || root
            .join("aufs/layers")
            .join(name)
            .symlink_metadata()
            .is_ok()
}

/// Files in an image store that Docker does not write there and the aufs side does not have.
fn in_store(
    root: &Path,
    store: &Path,
    aufs: Option<&AufsSide>,
    found: &mut Vec<PathBuf>,
) -> Result<(), Error> {
    for inner in new_files((root, store), aufs)? {
        let path = store.join(&inner);
        let is_file = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
        if !is_file || !is_dockers(&inner) {
            found.push(path);
        }
    }
    Ok(())
}

/// Somebody else's files where the aufs side waits while `commit` removes it; at any other time nothing belongs there.
fn in_removed(
    removed: &Path,
    story: Option<&JournalState>,
    found: &mut Vec<PathBuf>,
) -> Result<(), Error> {
    let is_committing = story.is_some_and(|story| story.state == State::Committing);
    for (name, path) in list(removed)? {
        if !is_committing || !["aufs", "image", GOING].contains(&&*name) {
            found.extend(files_in(&path)?);
        }
    }
    Ok(())
}

/// Somebody else's files among the containers' directories and the files in them that contain the name of their driver.
fn in_configs(containers: &Path, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    for (_, container) in list(containers)? {
        let files = list(&container)?.into_iter();
        let others = files.filter(|(name, _)| !CONFIGS.contains(&&**name));
        found.extend(others.map(|(_, path)| path));
    }
    Ok(())
}

/// Somebody else's files among the originals of those files, and in directories that were empty.
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

/// Everything in a directory that is not a directory, of any kind. Mounts in it are left out.
fn files_in(top: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in walk(top).sort_by_file_name() {
        let entry = entry.map_err(|error| Error::io(top, "read")(error.into()))?;
        if !entry.file_type().is_dir() {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

/// The entries of a directory, sorted by name; empty if it is not a directory.
fn list(directory: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    if !is_directory(directory) {
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
