//! Units of systemd that start a daemon.
//!
//! Source: `systemd.unit(5)`, "Unit File Load Path", and `systemd.service(5)`, "Command lines". The flags that a
//! snap gives its daemon are those of its `bin/dockerd-wrapper`, and were not compared with every release of it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use memchr::memmem;

use super::env_file::Reader;
use super::flags::Argument;
use super::host_files::HostFiles;
use super::launch::follow;
use super::service::{Service, arguments, unreadable};
use super::setting::Origin;
use super::unit::{self, Assignment};
use super::words;
use crate::tree::shown;

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

/// Docker's own unit; `None` if there is none.
pub(super) fn own_unit(files: &HostFiles) -> Option<Service> {
    let mut paths = UNIT_DIRECTORIES.iter().map(|dir| Path::new(dir).join(UNIT));
    let path = paths.find(|path| files.exists(path))?;
    Some(read_unit(files, &path))
}

/// Units with other names whose command is a daemon.
pub(super) fn other_units(files: &HostFiles) -> Vec<Service> {
    let paths = unit_paths(files);
    let named = |path: &&PathBuf| {
        let text = files.read(path).ok().flatten().unwrap_or_default();
        let name = path.file_name().unwrap_or_default();
        let names_docker = |text: &[u8]| memmem::find(text, b"docker").is_some();
        names_docker(name.as_bytes()) || names_docker(&text)
    };
    let daemons = |paths: Vec<&PathBuf>| -> Vec<Service> {
        let units = paths.into_iter().map(|path| read_unit(files, path));
        units.filter(|unit| unit.program.is_some()).collect()
    };
    let found = daemons(paths.iter().filter(named).collect());
    if found.is_empty() {
        // The name may be in a script only.
        daemons(paths.iter().collect())
    } else {
        found
    }
}

/// Every unit that could start a daemon on this host, whether or not it is in use: the unit with Docker's own name in
/// each directory, and units with other names whose command is a daemon.
pub(super) fn every_unit(files: &HostFiles) -> Vec<Service> {
    let own = UNIT_DIRECTORIES.map(|dir| Path::new(dir).join(UNIT));
    let own = own.into_iter().filter(|path| files.exists(path));
    let own: Vec<_> = own.map(|path| read_unit(files, &path)).collect();
    own.into_iter().chain(other_units(files)).collect()
}

/// Whether systemd starts the unit at boot, because a target wants it.
pub(super) fn is_enabled(files: &HostFiles, unit: &Service) -> bool {
    let name = unit.path.as_deref().and_then(Path::file_name);
    let name = name.unwrap_or_default();
    let directory = Path::new("/etc/systemd/system");
    let wants = files.names(directory).into_iter().filter(|target| {
        target.as_bytes().ends_with(b".wants") || target.as_bytes().ends_with(b".requires")
    });
    wants
        .map(|target| directory.join(target).join(name))
        .any(|link| files.exists(&link))
}

/// The paths of all units but Docker's own, on the host.
fn unit_paths(files: &HostFiles) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut seen = Vec::new();
    for dir in UNIT_DIRECTORIES.map(Path::new) {
        // `/lib` is often `/usr/lib`.
        let place = files.place(dir);
        if seen.contains(&place) {
            continue;
        }
        seen.push(place);
        for name in files.names(dir) {
            let is_known = |path: &PathBuf| path.file_name() == Some(&name);
            if name.as_bytes().ends_with(b".service") && name != UNIT && !found.iter().any(is_known)
            {
                found.push(dir.join(&name));
            }
        }
    }
    found
}

fn read_unit(files: &HostFiles, path: &Path) -> Service {
    let mut unit = Unit {
        service: Service::at(files, path),
        commands: Vec::new(),
    };
    unit.service.is_unit = true;
    let target = files.resolve(path).unwrap_or_default();
    unit.service.masked = target == Path::new("/dev/null");
    if !unit.service.masked {
        let main = unit.assignments(files, path);
        // An empty unit is masked, too.
        unit.service.masked = main.as_ref().is_some_and(Vec::is_empty);
        unit.apply(files, path, main.unwrap_or_default());
    }
    for path in drop_ins(files, path.file_name().unwrap_or_default()) {
        let found = unit.assignments(files, &path).unwrap_or_default();
        unit.apply(files, &path, found);
    }
    // Environment files take precedence over Environment=, whatever the order.
    for path in unit.service.environment_files.clone() {
        unit.service.read_variables(files, &path, Reader::Systemd);
    }
    unit.set_commands(files);
    unit.service
}

/// A unit that is being read.
struct Unit {
    service: Service,
    /// The values of `ExecStart=`, each with its file.
    commands: Vec<(PathBuf, Assignment)>,
}

impl Unit {
    /// A unit file's assignments; `None` if it cannot be read.
    fn assignments(&mut self, files: &HostFiles, path: &Path) -> Option<Vec<Assignment>> {
        match files.read(path) {
            Ok(text) => Some(unit::parse(&text.unwrap_or_default())),
            Err(error) => {
                self.service.findings.push(unreadable(&error));
                None
            }
        }
    }

    /// Applies one file of the unit: later files add to earlier ones, an empty value restarts a list.
    fn apply(&mut self, files: &HostFiles, path: &Path, assignments: Vec<Assignment>) {
        let place = files.place(path);
        let service = &mut self.service;
        for one in assignments {
            if one.section != "Service" {
                continue;
            }
            match (&*one.key, one.value.is_empty()) {
                ("ExecStart", true) => self.commands.clear(),
                ("ExecStart", false) => self.commands.push((place.clone(), one)),
                ("Environment", true) => service.environment.clear(),
                ("Environment", false) => set_environment(service, &place, &one),
                ("EnvironmentFile", true) => service.environment_files.clear(),
                ("EnvironmentFile", false) => {
                    let path = one.value.strip_prefix('-').unwrap_or(&one.value);
                    service.environment_files.push(PathBuf::from(path));
                }
                _ => {}
            }
        }
    }

    /// Finds the daemon among the commands.
    fn set_commands(&mut self, files: &HostFiles) {
        for (place, command) in std::mem::take(&mut self.commands) {
            let line = self.command_line(&place, &command);
            let first = line.first().map(|one| one.text.clone());
            if let Some(snap) = snap_of(&line) {
                self.set_snap(files, &snap);
            } else if let Some(launch) = follow(files, &line, &self.service.environment) {
                self.service.set_launch(launch);
            }
            if self.service.program.is_some() {
                self.service.unknown = None;
                return;
            }
            let program = first.unwrap_or_default();
            self.service.unknown.get_or_insert_with(|| {
                format!(
                    "{}, line {}: starts {}, and nothing shows which dockerd that starts, and with which flags",
                    shown(&place),
                    command.line_of(0),
                    shown(Path::new(&program))
                )
            });
        }
        if self.service.unknown.is_none() && !self.service.masked {
            let path = self.service.path.as_deref().unwrap_or(Path::new(UNIT));
            self.service.unknown = Some(format!(
                "{}: has no command, so it is not known which dockerd it starts",
                shown(path)
            ));
        }
    }

    /// The words of a command, with its variables.
    fn command_line(&mut self, place: &Path, command: &Assignment) -> Vec<Argument> {
        let marks = command.value.len()
            - command
                .value
                .trim_start_matches(['-', '@', ':', '+', '!', '|'])
                .len();
        let (marks, line) = command.value.split_at(marks);
        let mut found = Vec::new();
        for (index, word) in words::split(line).into_iter().enumerate() {
            // With `@`, the second word is the name that the program gets.
            if index == 1 && marks.contains('@') {
                continue;
            }
            let origin = Origin {
                path: place.to_path_buf(),
                line: command.line_of(marks.len() + word.at),
            };
            let text = word.text.replace("%%", "%");
            let argument = Argument { text, origin };
            if marks.contains(':') {
                found.push(argument);
            } else {
                self.expand(argument, &mut found);
            }
        }
        found
    }

    /// Adds an argument with its variables expanded: `$NAME` as a separate word is split into words, `${NAME}` stays
    /// within its word.
    fn expand(&mut self, argument: Argument, found: &mut Vec<Argument>) {
        let service = &mut self.service;
        if let Some(name) = argument.text.strip_prefix('$')
            && !name.is_empty()
            && name
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        {
            service.used.insert(name.to_owned());
            if let Some((value, origin)) = service.environment.get(name) {
                found.extend(arguments(value, origin));
            }
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
                service.used.insert(name.to_owned());
                let value = service.environment.get(name);
                whole.push_str(value.map_or("", |(value, _)| value));
                rest = tail;
            } else {
                whole.push('$');
            }
        }
        whole.push_str(rest);
        found.push(Argument {
            text: whole,
            origin,
        });
    }

    /// The flags that a snap's wrapper gives its daemon.
    fn set_snap(&mut self, files: &HostFiles, snap: &str) {
        let data = Path::new("/var/snap").join(snap);
        let config = [
            "current/config/daemon.json",
            "current/etc/docker/daemon.json",
        ];
        let config = config.map(|name| data.join(name));
        let config = config.iter().find(|path| files.exists(path));
        let config = config
            .cloned()
            .unwrap_or_else(|| data.join("current/config/daemon.json"));
        let path = self.service.path.clone().unwrap_or_default();
        let argument = |text: String| Argument {
            text,
            origin: Origin {
                path: path.clone(),
                line: 0,
            },
        };
        self.service.program = Some(Path::new("/snap").join(snap).join("current/bin/dockerd"));
        self.service.arguments = vec![
            argument(format!("--config-file={}", config.display())),
            argument(format!(
                "--data-root={}",
                data.join("common/var-lib-docker").display()
            )),
        ];
    }
}

/// The name of the snap whose daemon a command line starts.
fn snap_of(line: &[Argument]) -> Option<String> {
    let at = line.iter().position(|one| one.text == "run")?;
    let is_snap = line[..at].iter().any(|one| one.text.ends_with("/snap"));
    let app = line[at + 1..]
        .iter()
        .find(|one| !one.text.starts_with('-'))?;
    let snap = app.text.strip_suffix(".dockerd")?;
    // It becomes part of a path.
    (is_snap && !snap.contains('/') && snap != "..").then(|| snap.to_owned())
}

fn set_environment(service: &mut Service, place: &Path, one: &Assignment) {
    for word in words::split(&one.value) {
        if let Some((name, value)) = word.text.split_once('=') {
            let origin = Origin {
                path: place.to_path_buf(),
                line: one.line_of(word.at),
            };
            let value = value.replace("%%", "%");
            service.environment.insert(name.to_owned(), (value, origin));
        }
    }
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
