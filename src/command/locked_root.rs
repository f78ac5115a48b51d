//! A locked root: no other run works on it, and no Docker starts on it.

use std::path::{Path, PathBuf};

use super::error::Error;
use super::keep_out::keep_docker_out;
use crate::commit::RootLock;
use crate::daemon::{Host, NotAlone, PidFiles, check_stopped};
use crate::docker::{self, DataDir, Root};

/// A root, locked until it is dropped.
#[derive(Debug)]
pub(super) struct LockedRoot {
    path: PathBuf,
    /// The directory that Docker must not be using. `None`: Docker may run on the converted root, since it does not use
    /// the aufs side that is being removed.
    data: Option<DataDir>,
    /// What the operator should know.
    pub(super) notices: Vec<String>,
    host: Host,
    pid_files: Option<PidFiles>,
    _root_lock: RootLock,
}

impl LockedRoot {
    /// Opens a root that has an aufs side.
    pub(super) fn open(root: &Path, host: &Host) -> Result<Self, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let root = Root::open(root)?;
        let root_lock = RootLock::acquire(root.path())?;
        let mut notices = Vec::new();
        let pid_files = keep_docker_out(&root, host, false, &mut notices)?;
        Ok(Self {
            path: root.path().to_owned(),
            data: Some(root.into_data_dir()),
            notices,
            host: host.clone(),
            pid_files,
            _root_lock: root_lock,
        })
    }

    /// Opens a root of any kind to read its contents.
    pub(super) fn for_reading(root: &Path, host: &Host) -> Result<Self, Error> {
        match Self::open(root, host) {
            // It has no aufs side or a damaged one; that is for a verification to judge.
            Err(Error::Docker(
                docker::Error::NotAufs { .. } | docker::Error::MissingPart { .. },
            )) => Self::without_root(root, host),
            opened => opened,
        }
    }

    fn without_root(root: &Path, host: &Host) -> Result<Self, Error> {
        let mut held = Self::without_aufs(root, host)?;
        let directory = DataDir::open(root)?;
        check_stopped(&directory, host)?;
        held.data = Some(directory);
        Ok(held)
    }

    /// Opens a root whose aufs side is being removed: a daemon running there does not use it.
    pub(super) fn without_aufs(root: &Path, host: &Host) -> Result<Self, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let root_lock = RootLock::acquire(root)?;
        let pid_files = PidFiles::acquire(host, &mut Vec::new())?;
        Ok(Self {
            path: root.canonicalize().unwrap_or_else(|_| root.to_owned()),
            data: None,
            notices: Vec::new(),
            host: host.clone(),
            pid_files: Some(pid_files),
            _root_lock: root_lock,
        })
    }

    /// Its path, with symbolic links resolved.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that Docker must not be using.
    pub(super) fn data_dir(&self) -> Option<&DataDir> {
        self.data.as_ref()
    }

    /// Checks that still nobody else is working on it.
    pub(super) fn expect_alone(&self) -> Result<(), NotAlone> {
        match &self.pid_files {
            Some(files) => files.expect_alone(self.data_dir(), &self.host),
            None => Ok(()),
        }
    }

    /// Lets Docker start again.
    pub(super) fn release(self) {
        if let Some(files) = self.pid_files {
            files.release();
        }
    }
}
