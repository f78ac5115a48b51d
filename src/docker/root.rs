//! A Docker root directory: its layout and its owner.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::container::{Container, read_containers};
use super::data_dir::{DataDir, Owner};
use super::diagnostics::Diagnostics;
use super::error::{Error, OldLayout};
use super::files::{Dir, FileKind, ReadError};
use super::id::{CacheId, ChainId, ContainerId};

/// Directories that storage drivers keep in a root. `vfs` does not prove its driver: up to Docker 1.6, volumes were
/// there.
pub(crate) const DRIVERS: [&str; 7] = [
    "aufs",
    "btrfs",
    "devicemapper",
    "fuse-overlayfs",
    "overlay",
    "overlay2",
    "zfs",
];

/// A Docker root that has images and containers of the aufs driver in the content-addressed store (Docker 1.10 to 23).
#[derive(Debug)]
pub struct Root {
    pub(crate) data: DataDir,
    pub(super) aufs: Dir,
    pub(super) image: Dir,
}

/// As much as there is of an aufs root, for looking at it.
#[derive(Debug)]
pub struct RootParts {
    pub(super) data: DataDir,
    pub(super) aufs: Option<Dir>,
    pub(super) image: Option<Dir>,
    /// The directories that a conversion needs and that are missing.
    pub(super) missing: Vec<PathBuf>,
}

impl RootParts {
    /// Opens whatever there is, wherever symbolic links lead.
    ///
    /// # Errors
    /// The root itself cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let data = DataDir::open(path)?;
        let mut missing = Vec::new();
        let mut part = |above: Option<&Dir>, name: &str| {
            let above = above?;
            let part = above.dir_following_if_any(name).ok().flatten();
            if part.is_none() {
                missing.push(above.join(name));
            }
            part
        };
        let stores = part(Some(&data.dir), "image");
        let image = part(stores.as_ref(), "aufs");
        part(image.as_ref(), "layerdb");
        let aufs = part(Some(&data.dir), "aufs");
        for name in ["layers", "diff"] {
            part(aufs.as_ref(), name);
        }
        Ok(Self {
            data,
            aufs,
            image,
            missing,
        })
    }

    /// The data directory.
    pub fn data_dir(&self) -> &DataDir {
        &self.data
    }
}

impl Root {
    /// Opens a root and determines its layout. `path` itself and `aufs` in it may be symbolic links or mounts.
    ///
    /// # Errors
    /// The [`Error`] for what is there instead.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let data = DataDir::open(path)?;
        let dir = &data.dir;
        for name in ["image", "containers"] {
            if dir.kind(name)? == Some(FileKind::Symlink) {
                let path = dir.join(name);
                let target = path.canonicalize().unwrap_or_else(|_| path.clone());
                return Err(Error::LinkedPart { path, target });
            }
        }
        let image = match dir.dir_if_any("image")? {
            Some(image) => image.dir_if_any("aufs")?,
            None => None,
        };
        let has_layerdb = match &image {
            Some(image) => image.has_dir("layerdb")?,
            None => false,
        };
        let Some(image) = image.filter(|_| has_layerdb) else {
            return Err(what_else(dir, data.path().to_owned())?);
        };
        let aufs = match dir.dir_following("aufs") {
            Err(ReadError::Io { path, source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(Error::MissingPart { path });
            }
            other => other?,
        };
        for part in ["layers", "diff"] {
            if aufs.dir_following_if_any(part)?.is_none() {
                return Err(Error::MissingPart {
                    path: aufs.join(part),
                });
            }
        }
        Ok(Self { data, aufs, image })
    }

    /// Its path, with symbolic links resolved.
    pub fn path(&self) -> &Path {
        self.data.path()
    }

    /// Converts it into the data directory, without its aufs part.
    pub fn into_data_dir(self) -> DataDir {
        self.data
    }

    /// The data directory, without its aufs part.
    pub fn data_dir(&self) -> &DataDir {
        &self.data
    }

    /// The owner on this host of files that belong to root in a container.
    pub fn owner(&self) -> Owner {
        self.data.owner()
    }

    /// The directory that holds a layer's own files and whiteouts.
    pub fn branch(&self, id: &CacheId) -> PathBuf {
        self.path().join("aufs/diff").join(id.as_str())
    }

    /// The file that records the order of names in a layer's tar; it may be missing.
    pub fn tar_split(&self, chain: &ChainId) -> PathBuf {
        self.image
            .join("layerdb/sha256")
            .join(chain.file_name())
            .join("tar-split.json.gz")
    }

    /// Opens that file; a link, a pipe or anything else in its place is not followed or waited for.
    ///
    /// # Errors
    /// It does not exist, or is not a regular file.
    pub fn open_tar_split(&self, chain: &ChainId) -> Result<File, ReadError> {
        let layers = self.image.dir("layerdb")?.dir("sha256")?;
        layers.dir(chain.file_name())?.file("tar-split.json.gz")
    }

    /// The unchanged bytes of a container's config file: one of
    /// [`Container::configs`](super::container::Container::configs).
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_config(&self, container: &ContainerId, name: &str) -> Result<Vec<u8>, ReadError> {
        self.data
            .dir
            .dir("containers")?
            .dir(container.as_str())?
            .read(name)
    }

    /// Roots of `--userns-remap` below this one. Each is converted separately.
    ///
    /// # Errors
    /// The root cannot be listed.
    pub fn remapped_roots(&self) -> Result<Vec<PathBuf>, ReadError> {
        remapped_below(&self.data.dir)
    }

    /// Checks that the places of the result are free: nothing in `devicemapper`, and nothing in `image/devicemapper`.
    /// A daemon that tried the driver leaves empty directories there, which count for nothing.
    ///
    /// # Errors
    /// [`Error::TargetExists`], or an error that keeps this from being checked.
    pub fn check_target_free(&self) -> Result<(), Error> {
        let root = &self.data.dir;
        let image = root.dir("image")?;
        for (above, name) in [(root, "devicemapper"), (&image, "image/devicemapper")] {
            let is_taken = match above.kind("devicemapper")? {
                None => false,
                Some(FileKind::Directory) => !above.dir("devicemapper")?.list()?.is_empty(),
                Some(_) => true,
            };
            if is_taken {
                return Err(Error::TargetExists {
                    path: self.path().join(name),
                    root: self.path().to_owned(),
                    holds: self.held_by_devicemapper(&image),
                });
            }
        }
        Ok(())
    }

    /// How many images and containers the root has on devicemapper, as far as that can be read.
    fn held_by_devicemapper(&self, image: &Dir) -> (usize, usize) {
        let contents = || {
            let store = image.dir("devicemapper")?;
            let contents = store.dir("imagedb")?.dir("content")?.dir("sha256")?;
            Ok::<_, ReadError>(contents.list()?.len())
        };
        let containers = read_containers(&self.data.dir, &mut Diagnostics::default());
        let is_its = |container: &&Container| container.driver == "devicemapper";
        let containers = containers.values().filter(is_its).count();
        (contents().unwrap_or(0), containers)
    }
}

/// The error for a directory that is not an aufs root in the current layout: what it is instead.
fn what_else(dir: &Dir, path: PathBuf) -> Result<Error, ReadError> {
    if dir.has_dir("graph")? {
        if has_layers_inside(&dir.dir("graph")?)? {
            return Ok(Error::UnsupportedLayout {
                path,
                layout: OldLayout::GraphLayers,
            });
        }
        if dir.kind("repositories-aufs")?.is_some() {
            return Ok(Error::UnsupportedLayout {
                path,
                layout: OldLayout::Graph,
            });
        }
    }
    let mut drivers = Vec::new();
    for driver in DRIVERS {
        if dir.kind(driver)?.is_some() {
            drivers.push(driver);
        }
    }
    if drivers == ["aufs"] {
        return Ok(Error::MissingPart {
            path: path.join("image/aufs/layerdb"),
        });
    }
    let remapped = remapped_below(dir)?;
    Ok(Error::NotAufs {
        path,
        drivers,
        remapped,
    })
}

fn has_layers_inside(graph: &Dir) -> Result<bool, ReadError> {
    for entry in graph.list()? {
        if entry.kind == FileKind::Directory && graph.dir(&entry.name)?.has_dir("layer")? {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(crate) fn remapped_below(dir: &Dir) -> Result<Vec<PathBuf>, ReadError> {
    let mut roots = Vec::new();
    for entry in dir.list()? {
        let named = Owner::from_name(OsStr::from_bytes(entry.name.as_bytes())).is_some();
        if named
            && entry.kind == FileKind::Directory
            && dir.dir(&entry.name)?.kind("aufs")?.is_some()
        {
            roots.push(dir.join(&entry.name));
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_two_numbers_make_a_remapped_owner() {
        for (name, owner) in [
            ("/r/100000.65536", (100_000, 65_536)),
            ("/r/docker", (0, 0)),
            ("/r/1.2.3", (0, 0)),
            ("/r/+1.2", (0, 0)),
            ("/r/1.", (0, 0)),
            ("/r/4294967296.1", (0, 0)),
            ("/", (0, 0)),
        ] {
            let (uid, gid) = owner;
            assert_eq!(
                Owner::of_root(Path::new(name)),
                Owner { uid, gid },
                "{name}"
            );
        }
    }

    fn error_of(dirs: &[&str]) -> String {
        let temp = tempfile::tempdir().unwrap();
        for dir in dirs {
            fs::create_dir_all(temp.path().join(dir)).unwrap();
        }
        let error = Root::open(temp.path()).unwrap_err().to_string();
        error.replace(temp.path().canonicalize().unwrap().to_str().unwrap(), "R")
    }

    #[test]
    fn what_is_no_aufs_root_is_named() {
        for (dirs, error) in [
            (
                &[][..],
                "R: is not an aufs root: it has no storage driver's directory",
            ),
            (
                &["overlay2", "zfs", "vfs"],
                "R: is not an aufs root: it has overlay2, zfs",
            ),
            (
                &["7.8/aufs", "x.y/aufs", "9.9/other"],
                "R: is not an aufs root: it has no storage driver's directory; remapped roots below it: R/7.8",
            ),
            (
                &["aufs/diff"],
                "R/image/aufs/layerdb: is missing from the aufs root",
            ),
            (
                &["image/aufs/layerdb"],
                "R/aufs: is missing from the aufs root",
            ),
            (
                &["image/aufs/layerdb", "aufs/layers"],
                "R/aufs/diff: is missing from the aufs root",
            ),
            (
                &["graph/x", "repositories-aufs", "aufs"],
                "R: has the image store of Docker 0.7 to 1.9 (graph/ and repositories-aufs), which is not supported",
            ),
            (
                &["graph/x/layer"],
                "R: has the image store of Docker before 0.7 (graph/*/layer), which is not supported",
            ),
        ] {
            assert_eq!(error_of(dirs), error);
        }
    }

    #[test]
    fn an_absent_root_and_a_file_are_told_apart() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("f"), "").unwrap();
        assert!(matches!(
            Root::open(&temp.path().join("no")),
            Err(Error::NotFound { .. })
        ));
        assert!(matches!(
            Root::open(&temp.path().join("f")),
            Err(Error::NotADirectory { .. })
        ));
    }

    #[test]
    fn an_occupied_target_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let make = |dir: &str| fs::create_dir_all(temp.path().join(dir)).unwrap();
        make("image/aufs/layerdb");
        make("aufs/layers");
        make("aufs/diff");
        make("image/devicemapper");
        let root = Root::open(temp.path()).unwrap();
        assert!(root.check_target_free().is_ok());
        make("image/devicemapper/layerdb");
        assert!(
            matches!(root.check_target_free(), Err(Error::TargetExists { path, .. }) if path.ends_with("image/devicemapper"))
        );
        make("devicemapper");
        assert!(
            matches!(root.check_target_free(), Err(Error::TargetExists { path, .. }) if path.ends_with("image/devicemapper")),
            "an empty directory is not in the way"
        );
        make("devicemapper/metadata");
        assert!(
            matches!(root.check_target_free(), Err(Error::TargetExists { path, .. }) if path == root.path().join("devicemapper"))
        );
    }
}
