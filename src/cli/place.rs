//! Which root and which host a command works on.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::args::{BegunArgs, RootArgs};
use crate::command;
use crate::command::ConversionOrigin;
use crate::daemon::Host;
use crate::daemon::config::{Likeness, data_root, default_pid_file};
use crate::shell::{DEFAULT_ROOT, GivenOptions, SameCommand, remember};
use crate::tree::shown;

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
        "{}: {what}; --host-root names the directory where the host's / is mounted",
        shown(path)
    )]
    NoHost {
        /// What was given.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// There is nothing below `--host-root` whose settings could be changed.
    #[error(
        "{}: has no etc directory, so it is not a host's /, and --switch-daemon has no daemon.json to change there; \
         nothing was written. Next: pass the directory where the host's / is mounted as --host-root; or change \
         Docker's settings yourself: `{next}`",
        shown(path)
    )]
    NoSettings {
        /// What was given.
        path: PathBuf,
        /// The command without the option.
        next: String,
    },
    /// Another host root is given than the conversion was begun with, and nothing shows that it is the same host.
    #[error(
        "{}: the conversion was started for the host whose / was at {}, but {} {what}; nothing was done. Next: with \
         the original host root, `{}`; or, if {} is the same host's /, now mounted elsewhere, `{}`",
        shown(&.differs.root), shown(&.differs.begun), shown(&.differs.given), .differs.as_begun, shown(&.differs.given), .differs.moved
    )]
    OtherHost {
        /// The two.
        differs: Box<PlaceMismatch>,
        /// What is known of it.
        what: &'static str,
    },
    /// No host root is given, and the recorded one cannot be taken.
    #[error(
        "{}: the conversion was started for the host whose / was at {}, but that {what}; nothing was done. Next: mount \
         that host's /, and pass its location: `{next}`",
        shown(root),
        shown(begun)
    )]
    HostNotFound {
        /// The Docker root.
        root: PathBuf,
        /// What it was begun with.
        begun: PathBuf,
        /// What is there now.
        what: &'static str,
        /// The command.
        next: String,
    },
    /// Another pid file than the conversion was begun with.
    #[error(
        "{}: the conversion was started with the pid file {}, but now it would be {}, which does not keep out a Docker \
         that uses the original one; nothing was done. Next: with the original pid file, `{}`; or, if {} is right, \
         `{}`",
        shown(&.0.root), shown(&.0.begun), shown(&.0.given), .0.as_begun, shown(&.0.given), .0.moved
    )]
    OtherPidFile(Box<PlaceMismatch>),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] command::Error),
}

/// What is given, or goes without saying, is not what the conversion was begun with.
#[derive(Debug)]
pub(super) struct PlaceMismatch {
    /// The Docker root.
    root: PathBuf,
    /// What it was begun with.
    begun: PathBuf,
    /// What it would be now.
    given: PathBuf,
    /// The command with what it was begun with.
    as_begun: String,
    /// The command that takes the other.
    moved: String,
}

impl RootArgs {
    /// Works out what was given and what goes without saying.
    ///
    /// # Errors
    ///
    /// [`PlaceError::NoHost`].
    pub(super) fn place(&self) -> Result<Place, PlaceError> {
        let given = self.given()?;
        remember(given.clone());
        Ok(place(self.the_root(), &given))
    }

    /// The same for a command that only looks: what it prints of a conversion has the options that this was begun with.
    ///
    /// # Errors
    ///
    /// [`PlaceError::NoHost`].
    pub(super) fn place_to_look(&self) -> Result<Place, PlaceError> {
        let mut given = self.given()?;
        let root = self.the_root();
        if let Ok(Some(begun)) = ConversionOrigin::find(&root) {
            let at = PlaceComparison {
                root: &root,
                verb: "inspect",
                begun: &begun,
            };
            // It looks at the root alone, so another host is for the commands that it names.
            if let Ok(Some(host_root)) = at.host_root(&given) {
                given.host_root = Some(host_root);
            }
            at.take_pid_file(&mut given);
        }
        remember(given.clone());
        Ok(place(root, &given))
    }

    fn given(&self) -> Result<GivenOptions, PlaceError> {
        if let Some(path) = &self.host_root {
            expect_host(path)?;
        }
        // Recorded paths are for commands that may be started elsewhere.
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Ok(GivenOptions {
            host_root: self.host_root.as_ref().map(absolute),
            pid_file: self.pidfile.as_ref().map(absolute),
            host_moved: false,
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
                    "{}: is used as the root, because no --root was passed: {}",
                    told.path.display(),
                    told.why
                );
                told.path
            }
        }
    }
}

impl BegunArgs {
    /// Works out the same, with what the conversion was begun with where nothing was given.
    ///
    /// # Errors
    ///
    /// [`PlaceError`]; nothing has been done.
    pub(super) fn place(&self, verb: &str) -> Result<Place, PlaceError> {
        let mut given = self.given()?;
        let root = self.root.the_root();
        if let Some(begun) = ConversionOrigin::find(&root).map_err(command::Error::Commit)? {
            let at = PlaceComparison {
                root: &root,
                verb,
                begun: &begun,
            };
            if let Some(host_root) = at.host_root(&given)? {
                given.host_root = Some(host_root);
            }
            at.expect_pid_file(&given)?;
        }
        remember(given.clone());
        Ok(place(root, &given))
    }

    /// The same for a command that only tells: what is recorded and cannot be taken is no reason to say nothing.
    ///
    /// # Errors
    ///
    /// [`PlaceError::NoHost`], [`PlaceError::OtherHost`].
    pub(super) fn place_to_tell(&self) -> Result<Place, PlaceError> {
        let mut given = self.given()?;
        let root = self.root.the_root();
        if let Ok(Some(begun)) = ConversionOrigin::find(&root) {
            let at = PlaceComparison {
                root: &root,
                verb: "status",
                begun: &begun,
            };
            match at.host_root(&given) {
                Ok(taken) => given.host_root = taken.or(given.host_root),
                Err(error @ PlaceError::HostNotFound { .. }) => log::warn!("{error}"),
                Err(error) => return Err(error),
            }
            at.take_pid_file(&mut given);
        }
        remember(given.clone());
        Ok(place(root, &given))
    }

    fn given(&self) -> Result<GivenOptions, PlaceError> {
        Ok(GivenOptions {
            host_moved: self.host_moved,
            ..self.root.given()?
        })
    }
}

fn place(root: PathBuf, given: &GivenOptions) -> Place {
    Place {
        root,
        host: host(given),
    }
}

/// The host as it was given, with the usual places for the rest.
fn host(given: &GivenOptions) -> Host {
    let usual = Host::default();
    let root = given.host_root.clone().unwrap_or(usual.root);
    let pid_file = given.pid_file.clone();
    Host {
        pid_file: pid_file.unwrap_or_else(|| default_pid_file(&root)),
        root,
        ..Host::default()
    }
}

/// What was given, compared with what a conversion was begun with.
struct PlaceComparison<'a> {
    root: &'a Path,
    verb: &'a str,
    begun: &'a ConversionOrigin,
}

impl PlaceComparison<'_> {
    /// The host root to take instead of none; `None` to go on with what was given, or with `/`.
    fn host_root(&self, given: &GivenOptions) -> Result<Option<PathBuf>, PlaceError> {
        match &given.host_root {
            Some(_) if given.host_moved => Ok(None),
            Some(path) => self.expect_same_host(path, given).map(|()| None),
            None => self.recorded_host(given),
        }
    }

    fn expect_same_host(&self, path: &Path, given: &GivenOptions) -> Result<(), PlaceError> {
        let what = match self.begun.compare_host(path) {
            Likeness::Same => return Ok(()),
            Likeness::Unknown if self.begun.is_host_root(path) => return Ok(()),
            Likeness::Unknown => "is not known to be the same host's /",
            Likeness::Other => "is another host's /, according to its machine-id",
        };
        let differs = Box::new(PlaceMismatch {
            root: self.root.to_owned(),
            begun: self.begun.host_root.clone(),
            given: path.to_owned(),
            as_begun: self.command(&GivenOptions {
                host_root: Some(self.begun.host_root.clone()),
                ..given.clone()
            }),
            moved: self.command(&GivenOptions {
                host_moved: true,
                ..given.clone()
            }),
        });
        Err(PlaceError::OtherHost { differs, what })
    }

    /// What the journal names is taken only where it is certain to be the host that it was.
    fn recorded_host(&self, given: &GivenOptions) -> Result<Option<PathBuf>, PlaceError> {
        let path = &self.begun.host_root;
        let is_host = path.join("etc").is_dir();
        let (what, next) = match self.begun.compare_host(path) {
            _ if !path.is_dir() => ("is not a directory now", None),
            Likeness::Same if is_host => return Ok((path != Path::new("/")).then(|| path.clone())),
            Likeness::Other => ("is now another host's /, according to its machine-id", None),
            _ if !is_host => (
                "has no etc directory, so nothing shows that it is a host's /",
                Some(path),
            ),
            _ => (
                "may now be another host's /, because nothing shows that it is the same; if it is the same, pass it",
                Some(path),
            ),
        };
        let next = next.cloned().unwrap_or_else(|| "DIR".into());
        let next = self.command(&GivenOptions {
            host_root: Some(next),
            ..given.clone()
        });
        Err(PlaceError::HostNotFound {
            root: self.root.to_owned(),
            begun: path.clone(),
            what,
            next,
        })
    }

    /// Takes the recorded pid file where none is given and it is not the usual one: only to be told.
    fn take_pid_file(&self, given: &mut GivenOptions) {
        let usual = host(given);
        if !self.begun.is_pid_file(&usual.pid_file, &usual.root) {
            let recorded = || self.begun.pid_file.clone();
            given.pid_file.get_or_insert_with(recorded);
        }
    }

    /// A pid file is made where it is named: never where only the journal names it.
    fn expect_pid_file(&self, given: &GivenOptions) -> Result<(), PlaceError> {
        let Host { pid_file, root, .. } = host(given);
        let is_waived = given.host_moved && given.pid_file.is_some();
        if is_waived || self.begun.is_pid_file(&pid_file, &root) {
            return Ok(());
        }
        Err(PlaceError::OtherPidFile(Box::new(PlaceMismatch {
            root: self.root.to_owned(),
            begun: self.begun.pid_file.clone(),
            as_begun: self.command(&GivenOptions {
                pid_file: Some(self.begun.pid_file.clone()),
                ..given.clone()
            }),
            moved: self.command(&GivenOptions {
                pid_file: Some(pid_file.clone()),
                host_moved: true,
                ..given.clone()
            }),
            given: pid_file,
        })))
    }

    fn command(&self, given: &GivenOptions) -> String {
        SameCommand::new(self.verb, self.root)
            .given(given)
            .to_string()
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
            next: SameCommand::new("convert", &self.root)
                .without("--switch-daemon")
                .to_string(),
        })
    }
}

fn expect_host(path: &Path) -> Result<(), PlaceError> {
    let what = match path.metadata() {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => "is not a directory",
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "no such directory",
        Err(_) => "cannot be accessed",
    };
    Err(PlaceError::NoHost {
        path: path.to_owned(),
        what,
    })
}
