//! Docker's data directory, whatever its storage driver.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::container::read_containers;
use super::diagnostics::Diagnostics;
use super::error::Error;
use super::files::{Dir, ReadError};
use super::id::ContainerId;

/// A data directory. Whether Docker is using it can be found out without reading the driver's part of it.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    owner: Owner,
    pub(crate) dir: Dir,
}

impl DataDir {
    /// Opens the directory. `path` itself may be a symbolic link or a mount.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotADirectory`], or an error if it cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let opened = open_top(path)?;
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        // By the path that everything else uses, so that paths in messages and records are the same.
        let dir = Dir::open(&path).unwrap_or(opened);
        Ok(Self {
            owner: Owner::of_root(&path),
            path,
            dir,
        })
    }

    /// Its path, with symbolic links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The owner on this host of files that belong to root in a container.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// The ids and names of the containers whose configs say that they belong to the aufs driver. Damaged configs are
    /// reported by the survey.
    pub fn containers_of_aufs(&self) -> Vec<(ContainerId, String)> {
        let containers = read_containers(&self.dir, &mut Diagnostics::default()).into_iter();
        let of_aufs = containers.filter(|(_, container)| container.is_aufs());
        of_aufs
            .map(|(id, container)| (id, container.name))
            .collect()
    }
}

/// The owner on this host of files that belong to root in a container, with the ids as on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Owner {
    /// The owner of a root named `<uid>.<gid>`, as `--userns-remap` names it; otherwise 0:0.
    /// Source: moby v20.10 `daemon/daemon_unix.go`, `setupDaemonRoot`.
    pub(crate) fn of_root(path: &Path) -> Self {
        path.file_name()
            .and_then(Self::from_name)
            .unwrap_or(Self { uid: 0, gid: 0 })
    }

    pub(super) fn from_name(name: &OsStr) -> Option<Self> {
        let (uid, gid) = name.to_str()?.split_once('.')?;
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        };
        Some(Self {
            uid: number(uid)?,
            gid: number(gid)?,
        })
    }
}

pub(super) fn open_top(path: &Path) -> Result<Dir, Error> {
    Dir::open(path).map_err(|error| match &error {
        ReadError::Io { source, .. } => match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound {
                path: path.to_path_buf(),
            },
            io::ErrorKind::NotADirectory => Error::NotADirectory {
                path: path.to_path_buf(),
            },
            _ => error.into(),
        },
        _ => error.into(),
    })
}
