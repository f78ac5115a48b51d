//! How the host starts the daemon: the command line, its environment, and the files that both come from.
//!
//! Source: `systemd.unit(5)`, "Unit File Load Path", and `systemd.service(5)`, "Command lines"; for hosts without systemd
//! moby v20.10 `contrib/init/`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::env_file::{self, Reader};
use super::flags::Argument;
use super::host_files::HostFiles;
use super::setting::Origin;
use super::unit::{self, Assignment};
use super::words;
use crate::chain::Chain;
use crate::daemon::first_start::Finding;
use crate::docker::ReadError;

/// The directories that hold units; the first one that has a unit wins.
const UNIT_DIRECTORIES: [&str; 6] = [
    "/etc/systemd/system.control",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The daemon's unit.
const UNIT: &str = "docker.service";

/// Scripts that start the daemon on hosts without systemd, each with the files it reads and the variables that hold flags.
const SCRIPTS: [(&str, &[&str], &[&str]); 3] = [
    (
        "/etc/init/docker.conf",
        &["/etc/default/docker"],
        &["DOCKER_OPTS"],
    ),
    (
        "/etc/init.d/docker",
        &[
            "/etc/default/docker",
            "/etc/sysconfig/docker",
            "/etc/sysconfig/docker-storage",
        ],
        &[
            "DOCKER_OPTS",
            "OPTIONS",
            "other_args",
            "DOCKER_STORAGE_OPTIONS",
        ],
    ),
    (
        "/etc/rc.d/rc.docker",
        &["/etc/default/docker"],
        &["DOCKER_OPTS"],
    ),
];

/// The values of variables and where they are written.
type Variables = BTreeMap<String, (String, Origin)>;

/// How the daemon is started.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Service {
    /// The unit or script, for messages; `None` if nothing that starts the daemon was found.
    pub(in crate::daemon) path: Option<PathBuf>,
    /// Whether systemd starts it.
    pub(in crate::daemon) is_unit: bool,
    /// Whether the unit is masked, which keeps systemd from starting it.
    pub(in crate::daemon) masked: bool,
    /// The program's path on the host.
    pub(in crate::daemon) program: Option<PathBuf>,
    /// The arguments after the program.
    pub(super) arguments: Vec<Argument>,
    /// The environment.
    pub(super) environment: Variables,
    /// The files that hold variables, as paths on the host.
    pub(super) environment_files: Vec<PathBuf>,
    /// The names of the variables that occur in the command line.
    used: BTreeSet<String>,
    /// What could not be read.
    pub(super) findings: Vec<Finding>,
}

impl Service {
    /// Determines how this host starts the daemon.
    pub(super) fn read(files: &HostFiles) -> Self {
        let mut service = Self::default();
        let unit = unit_path(files).filter(|_| has_systemd(files));
        match unit {
            Some(path) => service.read_unit(files, &path),
            None => service.read_script(files),
        }
        service
    }

    /// Every unit that could start a daemon on this host, whether or not it is in use: the unit with Docker's own name
    /// in each directory, and units with other names whose command is a dockerd.
    pub(super) fn every_unit(files: &HostFiles) -> Vec<Self> {
        let own = UNIT_DIRECTORIES.map(|dir| Path::new(dir).join(UNIT));
        let own = own.into_iter().filter(|path| files.exists(path));
        let units = own.chain(other_units(files)).map(|path| {
            let mut service = Self::default();
            service.read_unit(files, &path);
            service
        });
        units.collect()
    }

    fn read_unit(&mut self, files: &HostFiles, path: &Path) {
        self.path = Some(files.place(path));
        self.is_unit = true;
        let target = files.resolve(path).unwrap_or_default();
        let mut commands = Vec::new();
        self.masked = target == Path::new("/dev/null");
        if !self.masked {
            let main = self.assignments(files, path);
            // An empty unit is masked, too.
            self.masked = main.as_ref().is_some_and(Vec::is_empty);
            self.apply(files, (path, main.unwrap_or_default()), &mut commands);
        }
        for path in drop_ins(files, path.file_name().unwrap_or_default()) {
            let found = self.assignments(files, &path).unwrap_or_default();
            self.apply(files, (&path, found), &mut commands);
        }
        // Environment files take precedence over Environment=, whatever the order.
        for path in self.environment_files.clone() {
            self.read_variables(files, &path, Reader::Systemd);
        }
        if let Some((place, command)) = commands.into_iter().next() {
            self.set_command(&place, &command);
        }
    }

    /// Applies one file of the unit: later files add to earlier ones, an empty value restarts a list.
    fn apply(
        &mut self,
        files: &HostFiles,
        (path, assignments): (&Path, Vec<Assignment>),
        commands: &mut Vec<(PathBuf, Assignment)>,
    ) {
        let place = files.place(path);
        for one in assignments {
            if one.section != "Service" {
                continue;
            }
            match (&*one.key, one.value.is_empty()) {
                ("ExecStart", true) => commands.clear(),
                ("ExecStart", false) => commands.push((place.clone(), one)),
                ("Environment", true) => self.environment.clear(),
                ("Environment", false) => self.set_environment(&place, &one),
                ("EnvironmentFile", true) => self.environment_files.clear(),
                ("EnvironmentFile", false) => {
                    let path = one.value.strip_prefix('-').unwrap_or(&one.value);
                    self.environment_files.push(PathBuf::from(path));
                }
                _ => {}
            }
        }
    }

    fn set_environment(&mut self, place: &Path, one: &Assignment) {
        for word in words::split(&one.value) {
            if let Some((name, value)) = word.text.split_once('=') {
                let origin = Origin {
                    path: place.to_path_buf(),
                    line: one.line_of(word.at),
                };
                let value = value.replace("%%", "%");
                self.environment.insert(name.to_owned(), (value, origin));
            }
        }
    }

    fn set_command(&mut self, place: &Path, command: &Assignment) {
        let marks = command.value.len()
            - command
                .value
                .trim_start_matches(['-', '@', ':', '+', '!', '|'])
                .len();
        let (marks, line) = command.value.split_at(marks);
        let mut words = words::split(line).into_iter();
        self.program = words.next().map(|word| PathBuf::from(word.text));
        if marks.contains('@') {
            words.next();
        }
        for word in words {
            let origin = Origin {
                path: place.to_path_buf(),
                line: command.line_of(marks.len() + word.at),
            };
            let text = word.text.replace("%%", "%");
            self.push_expanded(Argument { text, origin }, !marks.contains(':'));
        }
    }
    /// Adds an argument with its variables expanded: `$NAME` as a separate word is split into words, `${NAME}` stays
    /// within its word.
    fn push_expanded(&mut self, argument: Argument, expand: bool) {
        if !expand {
            self.arguments.push(argument);
            return;
        }
        if let Some(name) = argument.text.strip_prefix('$')
            && !name.starts_with(['{', '$'])
        {
            self.push_variable(name);
            return;
        }
        let Argument { text, origin } = argument;
        let mut whole = String::new();
        let mut rest = &*text;
        while let Some((head, tail)) = rest.split_once('$') {
            whole.push_str(head);
            rest = tail;
            if let Some(tail) = tail.strip_prefix('$') {
                whole.push('$');
                rest = tail;
            } else if let Some((name, tail)) =
                tail.strip_prefix('{').and_then(|tail| tail.split_once('}'))
            {
                self.used.insert(name.to_owned());
                whole.push_str(self.environment.get(name).map_or("", |(value, _)| value));
                rest = tail;
            } else {
                whole.push('$');
            }
        }
        whole.push_str(rest);
        self.arguments.push(Argument {
            text: whole,
            origin,
        });
    }

    fn read_script(&mut self, files: &HostFiles) {
        let script = SCRIPTS
            .iter()
            .find(|(path, ..)| files.exists(Path::new(path)));
        let Some((path, settings, variables)) = script else {
            return;
        };
        self.path = Some(files.place(Path::new(path)));
        for path in *settings {
            self.environment_files.push(PathBuf::from(path));
            self.read_variables(files, Path::new(path), Reader::Shell);
        }
        for name in *variables {
            self.push_variable(name);
        }
    }

    /// Adds the words of a variable's value.
    fn push_variable(&mut self, name: &str) {
        self.used.insert(name.to_owned());
        if let Some((value, origin)) = self.environment.get(name) {
            self.arguments.extend(arguments(value, origin));
        }
    }

    /// Whether this variable occurs in the command line.
    pub(super) fn uses(&self, name: &str) -> bool {
        self.used.contains(name)
    }

    fn read_variables(&mut self, files: &HostFiles, path: &Path, reader: Reader) {
        for (name, value) in read_variables(files, path, reader, &mut self.findings) {
            self.environment.insert(name, value);
        }
    }

    /// A unit file's assignments; `None` if it cannot be read.
    fn assignments(&mut self, files: &HostFiles, path: &Path) -> Option<Vec<Assignment>> {
        match files.read(path) {
            Ok(text) => Some(unit::parse(&text.unwrap_or_default())),
            Err(error) => {
                self.findings.push(unreadable(&error));
                None
            }
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

fn unit_path(files: &HostFiles) -> Option<PathBuf> {
    let paths = UNIT_DIRECTORIES.iter().map(|dir| Path::new(dir).join(UNIT));
    paths.into_iter().find(|path| files.exists(path))
}

/// The first unit with another name than Docker's own whose command is a dockerd.
pub(in crate::daemon) fn other_unit(files: &HostFiles) -> Option<PathBuf> {
    let first = other_units(files).into_iter().next();
    first.map(|path| files.place(&path))
}

/// All such units, as paths on the host.
fn other_units(files: &HostFiles) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    for dir in UNIT_DIRECTORIES.map(Path::new) {
        // `/lib` is often `/usr/lib`.
        let place = files.place(dir);
        if seen.contains(&place) {
            continue;
        }
        seen.push(place);
        for name in files.names(dir) {
            let path = dir.join(&name);
            if !name.as_bytes().ends_with(b".service") || name == UNIT {
                continue;
            }
            let Ok(Some(text)) = files.read(&path) else {
                continue;
            };
            let starts = |one: &Assignment| one.key == "ExecStart" && one.value.contains("dockerd");
            if unit::parse(&text).iter().any(starts) {
                found.push(path);
            }
        }
    }
    found
}

/// Whether systemd is the init. Ubuntu 14.04 installs units for a systemd that it does not have. Without any init at
/// all, assuming a unit is the best guess.
fn has_systemd(files: &HostFiles) -> bool {
    let init = Path::new("/sbin/init");
    let program = files.resolve(init).unwrap_or_default();
    !files.exists(init) || program.file_name().is_some_and(|name| name == "systemd")
}

/// A unit's drop-ins in the order in which they apply: by name; for equal names, the one in the first directory.
fn drop_ins(files: &HostFiles, unit: &OsStr) -> Vec<PathBuf> {
    let mut below = unit.to_owned();
    below.push(".d");
    let mut found: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for dir in UNIT_DIRECTORIES {
        let dir = Path::new(dir).join(&below);
        for name in files.names(&dir) {
            if name.as_bytes().ends_with(b".conf") {
                let path = dir.join(&name);
                found.entry(name).or_insert(path);
            }
        }
    }
    found.into_values().collect()
}
