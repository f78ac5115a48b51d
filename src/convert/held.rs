//! A root that is held: no other run works on it and no Docker starts on it.

use std::path::{Path, PathBuf};

use super::error::Error;
use super::keep_out::keep_docker_out;
use crate::commit::RootLock;
use crate::docker::daemon::{Hold, Host, PidFileLock, check_devices};
use crate::docker::{self, Root};

/// A root, held until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
    root: Option<Root>,
    /// What the operator should know.
    pub(super) notices: Vec<String>,
    lock: Option<PidFileLock>,
    _root_lock: RootLock,
}

impl Held {
    /// Opens a root that has an aufs side.
    pub(super) fn open(root: &Path, host: &Host) -> Result<Self, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let root = Root::open(root)?;
        let root_lock = RootLock::acquire(root.path())?;
        let mut notices = Vec::new();
        let lock = keep_docker_out(&root, host, false, &mut notices)?;
        Ok(Self {
            path: root.path().to_owned(),
            root: Some(root),
            notices,
            lock,
            _root_lock: root_lock,
        })
    }

    /// Opens a root of any kind to read what is in it.
    pub(super) fn for_reading(root: &Path, host: &Host) -> Result<Self, Error> {
        match Self::open(root, host) {
            // It has no aufs side, or that is damaged, which is what a verification is about.
            Err(Error::Docker(
                docker::Error::NotAufs { .. } | docker::Error::MissingPart { .. },
            )) => {
                let held = Self::without_aufs(root, host)?;
                check_devices(&held.path().join("devicemapper"), host)?;
                Ok(held)
            }
            opened => opened,
        }
    }

    /// Opens a root whose aufs side is being removed: a daemon that runs there does not use it.
    pub(super) fn without_aufs(root: &Path, host: &Host) -> Result<Self, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let root_lock = RootLock::acquire(root)?;
        let lock = match PidFileLock::acquire(host)? {
            Hold::Held(lock) => Some(lock),
            Hold::NoDirectory { .. } => None,
        };
        Ok(Self {
            path: root.canonicalize().unwrap_or_else(|_| root.to_owned()),
            root: None,
            notices: Vec::new(),
            lock,
            _root_lock: root_lock,
        })
    }

    /// Its path, symbolic links resolved.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The root with its aufs side, if that is still there.
    pub(super) fn root(&self) -> Option<&Root> {
        self.root.as_ref()
    }

    /// Lets Docker start again.
    pub(super) fn release(self) {
        if let Some(lock) = self.lock
            && let Err(error) = lock.release()
        {
            // The work is done: an error would say that it is not.
            log::warn!("{error}: remove it by hand before Docker starts");
        }
    }
}
