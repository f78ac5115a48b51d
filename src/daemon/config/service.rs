//! How the host starts the daemon: the command line, its environment, and the files that both come from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::env_file::{self, Reader};
use super::flags::Argument;
use super::host_files::HostFiles;
use super::launch::Launch;
use super::setting::Origin;
use super::words;
use crate::chain::Chain;
use crate::daemon::first_start::Finding;
use crate::docker::ReadError;

/// The values of variables and where they are written.
pub(super) type Variables = BTreeMap<String, (String, Origin)>;

/// How the daemon is started.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon) struct Service {
    /// The unit or script, for messages; `None` if nothing that starts the daemon was found.
    pub(in crate::daemon) path: Option<PathBuf>,
    /// Whether systemd starts it.
    pub(in crate::daemon) is_unit: bool,
    /// Whether the unit is masked, which keeps systemd from starting it.
    pub(in crate::daemon) masked: bool,
    /// Why it is not known with which flags the daemon is started, as a sentence without its end.
    pub(in crate::daemon) unknown: Option<String>,
    /// Where this host keeps the daemon's flags, if `daemon.json` is not the place for settings.
    pub(in crate::daemon) flags_place: Option<String>,
    /// The program's path on the host.
    pub(in crate::daemon) program: Option<PathBuf>,
    /// The arguments after the program.
    pub(super) arguments: Vec<Argument>,
    /// The environment.
    pub(super) environment: Variables,
    /// The files that hold variables, as paths on the host.
    pub(super) environment_files: Vec<PathBuf>,
    /// The names of the variables that occur in the command line.
    pub(super) used: BTreeSet<String>,
    /// What could not be read.
    pub(super) findings: Vec<Finding>,
}

impl Service {
    /// One that this file describes.
    pub(super) fn at(files: &HostFiles, path: &Path) -> Self {
        Self {
            path: Some(files.place(path)),
            ..Self::default()
        }
    }

    /// Whether it is known with which flags the daemon is started.
    pub(in crate::daemon) fn is_known(&self) -> bool {
        self.unknown.is_none()
    }

    /// Takes what a command line was found to start.
    pub(super) fn set_launch(&mut self, launch: Launch) {
        self.program = Some(launch.program);
        self.arguments = launch.arguments;
        self.environment_files.extend(launch.sourced);
        self.used.extend(launch.used);
        self.environment.extend(launch.environment);
        self.findings.extend(launch.errors.iter().map(unreadable));
    }

    /// Adds the words of a variable's value to the arguments.
    pub(super) fn push_variable(&mut self, name: &str) {
        self.used.insert(name.to_owned());
        if let Some((value, origin)) = self.environment.get(name) {
            self.arguments.extend(arguments(value, origin));
        }
    }

    /// Whether this variable occurs in the command line.
    pub(super) fn uses(&self, name: &str) -> bool {
        self.used.contains(name)
    }

    /// Reads a file of variables.
    pub(super) fn read_variables(&mut self, files: &HostFiles, path: &Path, reader: Reader) {
        for (name, value) in read_variables(files, path, reader, &mut self.findings) {
            self.environment.insert(name, value);
        }
    }
}

/// The arguments in a variable's value.
pub(super) fn arguments(value: &str, origin: &Origin) -> Vec<Argument> {
    let argument = |word: words::Word| Argument {
        text: word.text,
        origin: origin.clone(),
    };
    words::split(value).into_iter().map(argument).collect()
}

/// The variables of a file, with their places.
pub(super) fn read_variables(
    files: &HostFiles,
    path: &Path,
    reader: Reader,
    findings: &mut Vec<Finding>,
) -> Vec<(String, (String, Origin))> {
    let text = match files.read(path) {
        Ok(text) => text.unwrap_or_default(),
        Err(error) => {
            findings.push(unreadable(&error));
            return Vec::new();
        }
    };
    let place = files.place(path);
    let with_place = |variable: env_file::Variable| {
        let origin = Origin {
            path: place.clone(),
            line: variable.line,
        };
        (variable.name, (variable.value, origin))
    };
    env_file::parse(&text, reader)
        .into_iter()
        .map(with_place)
        .collect()
}

/// The finding for a file that cannot be read, so that its settings are unknown.
pub(super) fn unreadable(error: &ReadError) -> Finding {
    let message = format!("{}: Docker's settings there were not checked", Chain(error));
    Finding::warning("unreadable", message)
}
