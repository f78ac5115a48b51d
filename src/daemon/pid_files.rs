//! Holds all pid files that a daemon of this host could use.

use std::sync::{Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use super::candidates::candidates;
use super::check::check_stopped;
use super::finding::{Host, RunningDocker};
use super::pid_file::{Hold, LockError, PidFileLock};
use crate::docker::DataDir;
use crate::tree::shown;

/// Another process may be working on the root.
#[derive(Debug, Error)]
pub enum NotAlone {
    /// Docker, or one of its containers, is running.
    #[error(transparent)]
    Running(#[from] RunningDocker),
    /// A pid file is not ours, or cannot become ours.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// The pid files with this process's id in them. They are removed on drop.
#[derive(Debug)]
pub struct PidFiles {
    held: Mutex<Vec<PidFileLock>>,
}

impl PidFiles {
    /// Takes all of them. If none can be taken, that is a notice.
    ///
    /// # Errors
    ///
    /// [`LockError`]; in that case none is held.
    pub fn acquire(host: &Host, notices: &mut Vec<String>) -> Result<Self, LockError> {
        let files = Self {
            held: Mutex::default(),
        };
        notices.extend(files.take_new(host)?);
        Ok(files)
    }

    /// Checks that nobody else is at work: the files are still ours, and there is no sign of a Docker on this root.
    /// Also takes pid files that were named since. `root` is `None` if a running Docker does no harm.
    ///
    /// # Errors
    ///
    /// [`NotAlone`].
    pub fn expect_alone(&self, root: Option<&DataDir>, host: &Host) -> Result<(), NotAlone> {
        let mut taken = None;
        // A file that is gone does no harm, whoever removed it: it is created anew.
        self.held().retain_mut(|lock| match lock.is_there() {
            Ok(is_there) => is_there,
            Err(error) => {
                taken.get_or_insert(error);
                false
            }
        });
        if let Some(error) = taken {
            return Err(error.into());
        }
        for notice in self.take_new(host)? {
            log::debug!("{notice}");
        }
        if let Some(root) = root {
            check_stopped(root, host)?;
        }
        Ok(())
    }

    /// Removes the files, so that Docker can start.
    pub fn release(self) {
        let held = self.held.into_inner();
        for lock in held.unwrap_or_else(PoisonError::into_inner) {
            if let Err(error) = lock.release() {
                // The work is done; an error would say that it is not.
                log::warn!("{error}: remove it by hand before Docker starts");
            }
        }
    }

    /// Takes the files that are not held yet. Returns notices about the others.
    fn take_new(&self, host: &Host) -> Result<Vec<String>, LockError> {
        let mut notices = Vec::new();
        let mut missing = None;
        for path in candidates(host) {
            if self.held().iter().any(|lock| lock.path() == path) {
                continue;
            }
            match PidFileLock::acquire(&path, host)? {
                Hold::Held(lock) => self.held().push(lock),
                Hold::NoDirectory { dir } => missing = missing.or(Some(dir)),
                Hold::ReadOnly => log::debug!("{}: cannot be written by anyone", shown(&path)),
                Hold::Other => notices.push(format!(
                    "{}: is not a pid file, so it is left as it is and does not keep Docker from starting",
                    shown(&path)
                )),
            }
        }
        // A missing directory only means something if no file could be taken, and then only the usual directory is
        // named.
        if let Some(dir) = missing.filter(|_| self.held().is_empty()) {
            notices.push(format!(
                "{}: does not exist, so nothing keeps Docker from starting",
                shown(&dir)
            ));
        }
        Ok(notices)
    }

    fn held(&self) -> MutexGuard<'_, Vec<PidFileLock>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
