//! Which root and which host a command works on.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::args::RootArgs;
use crate::docker::daemon::Host;
use crate::docker::first_start::{data_root, default_pid_file};
use crate::shell::{DEFAULT_ROOT, Given, remember};

/// The root and its host, as far as that is looked at.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Docker's data directory.
    pub(super) root: PathBuf,
    /// The running system.
    pub(super) host: Host,
}

/// Why there is no such place.
#[derive(Debug, Error)]
pub(super) enum PlaceError {
    /// `--host-root` names no directory.
    #[error(
        "{}: {what}; --host-root names the directory where the host's / is mounted", path.display()
    )]
    NoHost {
        /// What was given.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// There is nothing below `--host-root` whose settings could be changed.
    #[error(
        "{}: has no directory etc, so it is not a host's /, and --switch-daemon has no daemon.json to change there; \
         nothing was written. --host-root names the directory where the host's / is mounted",
        path.display()
    )]
    NoSettings {
        /// What was given.
        path: PathBuf,
    },
}

impl RootArgs {
    /// Works out what was given and what goes without saying.
    ///
    /// # Errors
    ///
    /// [`PlaceError::NoHost`].
    pub(super) fn place(&self) -> Result<Place, PlaceError> {
        if let Some(path) = &self.host_root {
            expect_host(path)?;
        }
        remember(Given {
            host_root: self.host_root.clone(),
            pid_file: self.pidfile.clone(),
        });
        let usual = Host::default();
        let host_root = self.host_root.clone().unwrap_or(usual.root);
        let pid_file = self.pidfile.clone();
        Ok(Place {
            root: self.the_root(),
            host: Host {
                pid_file: pid_file.unwrap_or_else(|| default_pid_file(&host_root)),
                root: host_root,
                ..Host::default()
            },
        })
    }

    /// The root that was named; else, never that of a rescue system, the one of the host that was named.
    fn the_root(&self) -> PathBuf {
        match (&self.root, &self.host_root) {
            (Some(root), _) => root.clone(),
            (None, None) => PathBuf::from(DEFAULT_ROOT),
            (None, Some(host_root)) => {
                let told = data_root(host_root);
                log::warn!(
                    "{}: is the root, as no --root was given: {}",
                    told.path.display(),
                    told.why
                );
                told.path
            }
        }
    }
}

impl Place {
    /// Makes sure that the host has settings that can be changed.
    ///
    /// # Errors
    ///
    /// [`PlaceError::NoSettings`].
    pub(super) fn expect_settings(&self) -> Result<(), PlaceError> {
        if self.host.root.join("etc").is_dir() {
            return Ok(());
        }
        Err(PlaceError::NoSettings {
            path: self.host.root.clone(),
        })
    }
}

fn expect_host(path: &Path) -> Result<(), PlaceError> {
    let what = match path.metadata() {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => "is no directory",
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "no such directory",
        Err(_) => "cannot be looked at",
    };
    Err(PlaceError::NoHost {
        path: path.to_owned(),
        what,
    })
}
