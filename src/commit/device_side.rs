//! The state of the devicemapper side that a verification saw: it shows a later command whether that side was written
//! to since.
//!
//! Docker records every device and every start of a container in files, and a write to a pool in loop files shows in
//! the times of these files. A write in place to a block device does not show here at all: `docker cp` into a stopped
//! container is enough for that. The superblocks of the devices' file systems show it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::error::Error;
use super::regular_files::read_regular;

/// The devicemapper side at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSide {
    /// A digest of the driver's files: names and bytes.
    driver: String,
    /// A digest of the image store: names, sizes and times.
    images: String,
    /// A digest of the containers' configs: names and bytes.
    configs: String,
    /// A digest of the first block of the pool's metadata, which every pool transaction writes. `None`: could not be
    /// read.
    superblock: Option<String>,
    /// Sizes and times of the pool's files, if it has any.
    files: Vec<PoolFile>,
    /// When the kernel last mounted the devices' file systems writable, in seconds since 1970, by layer id. Earlier
    /// versions did not record it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    mounts: BTreeMap<String, i64>,
}

/// A file of the pool: its size in bytes, and when its contents and the file were last changed, in seconds since 1970
/// and nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PoolFile {
    name: String,
    bytes: u64,
    modified: (i64, i64),
    /// Nobody can set this time. A copy has its own: it is not the file that was read.
    changed: (i64, i64),
    inode: u64,
}

impl DeviceSide {
    /// What is in place in `root` now. `superblock` is the first block of the pool's metadata.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn of(root: &Path, superblock: Option<&[u8]>) -> Result<Self, Error> {
        let home = root.join("devicemapper");
        let mut files = Vec::new();
        for name in ["data", "metadata"] {
            files.extend(pool_file(&home.join("devicemapper"), name)?);
        }
        Ok(Self {
            driver: of_bytes(&home.join("metadata"), |_| true)?,
            images: of_times(&root.join("image/devicemapper"))?,
            configs: of_bytes(&root.join("containers"), is_config)?,
            superblock: superblock.map(|block| format!("{:x}", Sha256::digest(block))),
            files,
            mounts: BTreeMap::new(),
        })
    }

    /// Adds the times of the mounts.
    #[must_use]
    pub fn with_mounts(self, mounts: BTreeMap<String, i64>) -> Self {
        Self { mounts, ..self }
    }

    /// When a layer's device had last been mounted; `None` if no such times are known.
    pub fn mount_of(&self, layer: &str) -> Option<Option<i64>> {
        let is_known = !self.mounts.is_empty();
        is_known.then(|| self.mounts.get(layer).copied())
    }

    /// What was written between this moment and `later`, as one text each.
    pub fn written_until(&self, later: &Self) -> Vec<&'static str> {
        [
            (self.driver != later.driver, "the driver's files"),
            (self.images != later.images, "the image store"),
            (self.configs != later.configs, "the containers' configs"),
            (self.superblock != later.superblock, "the pool's metadata"),
            (self.files != later.files, "the pool's files"),
        ]
        .into_iter()
        .filter_map(|(differs, what)| differs.then_some(what))
        .collect()
    }
}

fn is_config(path: &Path) -> bool {
    let name = path.file_name();
    name.is_some_and(|name| name == "config.v2.json" || name == "config.json")
}

fn pool_file(directory: &Path, name: &str) -> Result<Option<PoolFile>, Error> {
    let path = directory.join(name);
    let meta = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        meta => meta.map_err(Error::io(&path, "stat"))?,
    };
    Ok(Some(PoolFile {
        name: name.to_owned(),
        bytes: meta.len(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
        inode: meta.ino(),
    }))
}

/// A digest of the regular files in a directory and in its subdirectories.
fn of_bytes(top: &Path, wanted: impl Fn(&Path) -> bool) -> Result<String, Error> {
    let mut sum = Sha256::new();
    for path in files_in(top, 2)? {
        if !wanted(&path) {
            continue;
        }
        if let Some(bytes) = read_regular(&path)? {
            name(&mut sum, top, &path);
            sum.update(Sha256::digest(bytes));
        }
    }
    Ok(format!("{:x}", sum.finalize()))
}

fn of_times(top: &Path) -> Result<String, Error> {
    let mut sum = Sha256::new();
    for path in files_in(top, usize::MAX)? {
        let meta = fs::symlink_metadata(&path).map_err(Error::io(&path, "stat"))?;
        name(&mut sum, top, &path);
        for number in [meta.len().cast_signed(), meta.mtime(), meta.mtime_nsec()] {
            sum.update(number.to_le_bytes());
        }
    }
    Ok(format!("{:x}", sum.finalize()))
}

/// Sorted by name; empty if there is no directory.
fn files_in(top: &Path, depth: usize) -> Result<Vec<std::path::PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in WalkDir::new(top).max_depth(depth).sort_by_file_name() {
        match entry {
            Ok(entry) if entry.file_type().is_dir() => {}
            Ok(entry) => files.push(entry.into_path()),
            Err(error) => match error.io_error().map(io::Error::kind) {
                Some(io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                _ => return Err(Error::io(top, "read")(error.into())),
            },
        }
    }
    Ok(files)
}

/// Adds a path with its length in front, so that no two lists give the same digest.
fn name(sum: &mut Sha256, top: &Path, path: &Path) {
    use std::os::unix::ffi::OsStrExt;
    let inner = path
        .strip_prefix(top)
        .unwrap_or(path)
        .as_os_str()
        .as_bytes();
    sum.update((inner.len() as u64).to_le_bytes());
    sum.update(inner);
}

#[cfg(test)]
mod tests {
    use std::fs::FileTimes;
    use std::time::{Duration, SystemTime};

    use super::*;

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in [
            "devicemapper/metadata/base",
            "devicemapper/devicemapper/data",
            "devicemapper/devicemapper/metadata",
            "image/devicemapper/layerdb/sha256/a/diff",
            "containers/c/config.v2.json",
        ] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "1").unwrap();
        }
        root
    }

    fn of(root: &tempfile::TempDir) -> DeviceSide {
        DeviceSide::of(root.path(), Some(b"superblock")).unwrap()
    }

    #[test]
    fn each_part_that_is_written_is_named() {
        for (file, part) in [
            ("devicemapper/metadata/base", "the driver's files"),
            ("devicemapper/metadata/new", "the driver's files"),
            ("devicemapper/devicemapper/data", "the pool's files"),
            (
                "image/devicemapper/layerdb/sha256/a/diff",
                "the image store",
            ),
            ("image/devicemapper/new", "the image store"),
            ("containers/c/config.v2.json", "the containers' configs"),
        ] {
            let root = root();
            let before = of(&root);
            assert_eq!(before.written_until(&of(&root)), Vec::<&str>::new());
            fs::write(root.path().join(file), "22").unwrap();
            assert_eq!(before.written_until(&of(&root)), [part], "{file}");
        }
        let root = root();
        let later = DeviceSide::of(root.path(), Some(b"another")).unwrap();
        assert_eq!(of(&root).written_until(&later), ["the pool's metadata"]);
    }

    #[test]
    fn a_pool_file_whose_time_was_set_back_was_written_all_the_same() {
        let root = root();
        let path = root.path().join("devicemapper/devicemapper/data");
        let file = fs::File::options().write(true).open(&path).unwrap();
        let time = SystemTime::now() - Duration::from_secs(1000);
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
        let before = of(&root);
        fs::write(&path, "2").unwrap();
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
        assert_eq!(before.written_until(&of(&root)), ["the pool's files"]);
    }

    #[test]
    fn a_copy_of_a_pool_file_is_not_the_file_that_was_read() {
        let root = root();
        let path = root.path().join("devicemapper/devicemapper/data");
        let before = of(&root);
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        let copy = path.with_extension("copy");
        fs::write(&copy, "2").unwrap();
        let file = fs::File::options().write(true).open(&copy).unwrap();
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
        fs::rename(&copy, &path).unwrap();
        assert_eq!(before.written_until(&of(&root)), ["the pool's files"]);
    }

    #[test]
    fn logs_and_other_files_of_containers_do_not_count() {
        let root = root();
        let before = of(&root);
        fs::write(root.path().join("containers/c/c-json.log"), "line").unwrap();
        assert_eq!(before.written_until(&of(&root)), Vec::<&str>::new());
    }
}
