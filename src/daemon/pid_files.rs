//! All pid files that a daemon of this host could use, held.

use std::sync::{Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use super::candidates::candidates;
use super::check::check_stopped;
use super::finding::{Host, RunningDocker};
use super::pid_file::{Hold, LockError, PidFileLock};
use crate::docker::DataDir;
use crate::tree::shown;

/// Somebody else may be at work on the root.
#[derive(Debug, Error)]
pub enum NotAlone {
    /// Docker, or a container of its, runs.
    #[error(transparent)]
    Running(#[from] RunningDocker),
    /// A pid file is not ours, or cannot be.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// The pid files with our own process id in them. Dropped, they are removed.
#[derive(Debug)]
pub struct PidFiles {
    held: Mutex<Vec<PidFileLock>>,
}

impl PidFiles {
    /// Takes all that there are. Where none can be taken, that is a notice.
    ///
    /// # Errors
    ///
    /// [`LockError`]; none is held then.
    pub fn acquire(host: &Host, notices: &mut Vec<String>) -> Result<Self, LockError> {
        let files = Self {
            held: Mutex::default(),
        };
        notices.extend(files.take_new(host)?);
        Ok(files)
    }

    /// Makes sure that nobody else is at work: the files are ours still, those that were named since are taken too, and no sign of a
    /// Docker on this root is there. `root` is `None` where a Docker does no harm.
    ///
    /// # Errors
    ///
    /// [`NotAlone`].
    pub fn expect_alone(&self, root: Option<&DataDir>, host: &Host) -> Result<(), NotAlone> {
        let mut taken = None;
        // One that is gone is no harm, whoever cleans up there: it is made anew.
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
                // The work is done: an error would say that it is not.
                log::warn!("{error}: remove it by hand before Docker starts");
            }
        }
    }

    /// Takes those that are not held yet. Gives what is to be known of the others.
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
                Hold::ReadOnly => log::debug!("{}: cannot be written by anybody", shown(&path)),
                Hold::Other => notices.push(format!(
                    "{}: is no pid file, so it stays as it is and keeps no Docker from starting",
                    shown(&path)
                )),
            }
        }
        // Of directories that nobody has made, only the usual one says anything.
        if let Some(dir) = missing.filter(|_| self.held().is_empty()) {
            notices.push(format!(
                "{}: does not exist, so nothing keeps a Docker from starting",
                shown(&dir)
            ));
        }
        Ok(notices)
    }

    fn held(&self) -> MutexGuard<'_, Vec<PidFileLock>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
