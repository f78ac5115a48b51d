//! Content that was added to the devicemapper side since it was put in place, and that shows in no file that lists
//! devices or containers: data written to the pool, and objects in the image store.
//!
//! The pool's metadata does not count: a kernel that merely activates a pool writes there, and what it holds about
//! devices shows in the driver's files. Data in loop files is written with every byte that a container writes. Data
//! written in place to a block device shows nowhere.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::aufs_side::AufsSide;
use super::error::Error;

/// The pool's data file in the driver's home, if the pool is in loop files.
const DATA: &str = "devicemapper/data";

/// The parts of an image store without content worth keeping: the origins of layers, unfinished downloads, and names,
/// which are counted separately.
const WITHOUT_CONTENT: [&str; 3] = ["distribution/", "layerdb/tmp/", "repositories.json"];

/// The prefix of Docker's temporary files, in any directory.
const SCRATCH: &str = ".tmp";

/// The pool's data file as it was moved into place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolData {
    bytes: u64,
    /// When it was last written, in seconds since 1970 and nanoseconds. The change time is left out: another mode or a
    /// second name is not content, and a copy of the root has its own times.
    modified: (i64, i64),
}

impl PoolData {
    /// The data file in the driver's `home`; `None` if the pool is elsewhere.
    pub(super) fn of(home: &Path) -> Result<Option<Self>, Error> {
        let path = home.join(DATA);
        let meta = match path.symlink_metadata() {
            Err(error) if is_absent(&error) => return Ok(None),
            meta => meta.map_err(Error::io(&path, "stat"))?,
        };
        Ok(Some(Self {
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }))
    }

    /// Whether it was written to since. A missing file holds nothing.
    pub(super) fn is_written_in(&self, home: &Path) -> Result<bool, Error> {
        Ok(Self::of(home)?.is_some_and(|now| now != *self))
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Objects in the devices' image store, `store`, that the aufs side does not have and did not have. Objects that are
/// missing or damaged there are not content that going back loses.
pub(super) fn new_objects(
    (root, store): (&Path, &Path),
    aufs: Option<&AufsSide>,
) -> Result<Vec<String>, Error> {
    let files = new_files((root, store), aufs)?;
    let objects: BTreeSet<String> = files
        .iter()
        .filter(|inner| !is_without_content(inner))
        .map(|inner| object(&inner.to_string_lossy()))
        .collect();
    Ok(objects.into_iter().collect())
}

/// The same as files, given as paths in the image store, including files without content worth keeping if they are
/// Docker's.
pub(super) fn new_files(
    (root, store): (&Path, &Path),
    aufs: Option<&AufsSide>,
) -> Result<Vec<PathBuf>, Error> {
    let before = root.join("image/aufs");
    let mut found = Vec::new();
    for entry in WalkDir::new(store).sort_by_file_name() {
        let entry = match entry {
            Err(error) if error.depth() == 0 => break,
            entry => entry.map_err(|error| Error::io(store, "read")(error.into()))?,
        };
        let inner = entry.path().strip_prefix(store).unwrap_or(entry.path());
        if entry.file_type().is_dir() {
            continue;
        }
        let is_known = before.join(inner).symlink_metadata().is_ok()
            || aufs.is_some_and(|aufs| aufs.is_copied(store, inner));
        if !is_known {
            found.push(inner.to_owned());
        }
    }
    Ok(found)
}

fn is_without_content(inner: &Path) -> bool {
    let name = inner.file_name().unwrap_or_default().to_string_lossy();
    let path = inner.to_string_lossy();
    name.starts_with(SCRATCH) || WITHOUT_CONTENT.iter().any(|part| path.starts_with(part))
}

/// The object that a file belongs to: a layer's files are one object.
fn object(inner: &str) -> String {
    let parts: Vec<&str> = inner.split('/').collect();
    match parts[..] {
        ["layerdb", kind, id, _, ..] => format!("layerdb/{kind}/{id}"),
        _ => inner.to_owned(),
    }
}
