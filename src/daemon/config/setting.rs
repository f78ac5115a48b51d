//! One setting of the daemon and its place.

use std::fmt;
use std::path::PathBuf;

use crate::tree::shown;

/// The settings that are recognized. The names are those of `daemon.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Directive {
    Driver,
    Options,
    Graph,
    DataRoot,
    ConfigFile,
    UsernsRemap,
    PidFile,
}

impl Directive {
    /// Its key in `daemon.json`.
    pub(in crate::daemon) fn key(self) -> &'static str {
        match self {
            Self::Driver => "storage-driver",
            Self::Options => "storage-opts",
            Self::Graph => "graph",
            Self::DataRoot => "data-root",
            Self::ConfigFile => "config-file",
            Self::UsernsRemap => "userns-remap",
            Self::PidFile => "pidfile",
        }
    }
}

/// A place in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::daemon) struct Origin {
    /// The file, as a path on this system.
    pub(super) path: PathBuf,
    /// The line, from 1; 0 if there is no line to name.
    pub(super) line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.path))?;
        match self.line {
            0 => Ok(()),
            line => write!(f, ", line {line}"),
        }
    }
}

/// How the daemon gets the setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Way {
    /// A flag, as it was written.
    Flag(String),
    /// A key of `daemon.json`.
    File,
    /// The variable `DOCKER_DRIVER`.
    Environment,
}

/// A setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Setting {
    pub(in crate::daemon) directive: Directive,
    pub(in crate::daemon) value: String,
    pub(in crate::daemon) way: Way,
    pub(in crate::daemon) origin: Origin,
}

impl Setting {
    pub(in crate::daemon) fn is_flag(&self) -> bool {
        matches!(self.way, Way::Flag(_))
    }

    pub(super) fn is_file(&self) -> bool {
        self.way == Way::File
    }
}

/// Writes the place and the words there, to start a message with.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, value, .. } = self;
        match &self.way {
            Way::Flag(given) => write!(f, "{origin}: {given}"),
            Way::File => write!(f, "{origin}: {} {value:?}", self.directive.key()),
            Way::Environment => write!(f, "{origin}: DOCKER_DRIVER={value}"),
        }
    }
}
