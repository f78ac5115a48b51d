//! Docker's data directory, whatever storage driver it is of.

use std::path::{Path, PathBuf};

use super::container::{Container, read_containers};
use super::error::Error;
use super::files::Dir;
use super::notes::Notes;
use super::root::{Owner, open_top};

/// A data directory. Whether Docker is at work on it can be told without looking at a driver's part of it.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    owner: Owner,
    pub(crate) dir: Dir,
}

impl DataDir {
    /// Opens it. `path` itself may be a symbolic link or a mount.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotADirectory`], or that it cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let dir = open_top(path)?;
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        Ok(Self {
            owner: Owner::of_root(&path),
            path,
            dir,
        })
    }

    /// Its path, symbolic links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The owner of container root on this host.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// The names of the containers whose configs say that they belong to the aufs driver. What is wrong with a config is for the
    /// survey to tell.
    pub fn containers_of_aufs(&self) -> Vec<String> {
        let containers = read_containers(&self.dir, &mut Notes::default());
        let of_aufs = containers.into_values().filter(Container::is_aufs);
        of_aufs.map(|container| container.name).collect()
    }
}
