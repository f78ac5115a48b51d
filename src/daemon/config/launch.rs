//! Follows a command line to the daemon that it starts: through shells, scripts, and programs that start others.
//!
//! Source: moby v20.10 `contrib/init/`, moby v1.10 `contrib/init/` for `docker daemon`; start-stop-daemon(8);
//! openrc-run(8).

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::daemon_options::takes_value;
use super::flags::Argument;
use super::host_files::HostFiles;
use super::setting::Origin;
use super::shell_script::{Script, Shell, Value};
use crate::docker::ReadError;

/// The number of scripts that are read one inside the other.
const MAX_DEPTH: usize = 4;

/// The number of scripts that are read in all, because each can name many others.
const MAX_SCRIPTS: usize = 32;

/// Shells, with `-c` or a script.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "ksh", "busybox"];

/// Programs and functions whose arguments are another command line, after options of their own.
const STARTERS: [&str; 22] = [
    "exec",
    "env",
    "nohup",
    "setsid",
    "nice",
    "ionice",
    "chrt",
    "taskset",
    "numactl",
    "prlimit",
    "unshare",
    "nsenter",
    "cgexec",
    "command",
    "daemon",
    "sudo",
    "runuser",
    "chpst",
    "catchsegv",
    "systemd-run",
    "systemd-cat",
    "time",
];

/// Programs that start another one with the arguments after `--`.
const SUPERVISORS: [&str; 3] = ["start-stop-daemon", "supervise-daemon", "daemonize"];

/// Options of theirs that start nothing.
const NO_START: [&str; 6] = ["--stop", "-K", "--status", "-T", "--signal", "-s"];

/// Arguments with which the daemon's program only prints something.
const QUERIES: [&str; 5] = ["--version", "-v", "--help", "-h", "--validate"];

/// A daemon's command line, and where it comes from.
#[derive(Debug, Default)]
pub(super) struct Launch {
    /// The program, as the command line names it.
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) arguments: Vec<Argument>,
    /// The files that scripts on the way read variables from, as paths on the host.
    pub(super) sourced: Vec<PathBuf>,
    /// The names of the variables that these scripts use.
    pub(super) used: BTreeSet<String>,
    /// What these scripts put into its environment.
    pub(super) environment: BTreeMap<String, (String, Origin)>,
    /// Files that could not be read.
    pub(super) errors: Vec<ReadError>,
}

/// What a command line is.
enum Kind<'a> {
    /// A daemon's program at this place, and its arguments.
    Daemon(usize, &'a [Argument]),
    /// A shell at this place.
    Shell(usize),
    /// Something else.
    Other,
}

/// The daemon that a command line starts; `None` if it starts none, or nothing shows that it does.
pub(super) fn follow(
    files: &HostFiles,
    line: &[Argument],
    environment: &BTreeMap<String, (String, Origin)>,
) -> Option<Launch> {
    Follower::new(files, environment).line(line, 0)
}

/// The daemon that a script starts. `before` prepares the shell that reads it.
pub(super) fn follow_script(
    files: &HostFiles,
    path: &Path,
    before: impl FnOnce(&mut Shell<'_>),
) -> Option<Launch> {
    let text = files.read(path).ok().flatten()?;
    let environment = &BTreeMap::new();
    let mut shell = Shell::new(files, name_of(&path.to_string_lossy()));
    before(&mut shell);
    let script = shell.read(&String::from_utf8_lossy(&text), path);
    Follower::new(files, environment).script(script, 1)
}

struct Follower<'a> {
    files: &'a HostFiles,
    environment: &'a BTreeMap<String, (String, Origin)>,
    /// The number of scripts that may still be read.
    left: Cell<usize>,
}

impl<'a> Follower<'a> {
    fn new(files: &'a HostFiles, environment: &'a BTreeMap<String, (String, Origin)>) -> Self {
        Self {
            files,
            environment,
            left: Cell::new(MAX_SCRIPTS),
        }
    }

    fn line(&self, line: &[Argument], depth: usize) -> Option<Launch> {
        if depth > MAX_DEPTH {
            return None;
        }
        match kind(line) {
            Kind::Daemon(at, arguments) => {
                let program = Path::new(&line[at].text);
                if let Some(text) = self.script_text(program) {
                    return self.file(&text, program, arguments, depth);
                }
                let is_query = |one: &Argument| QUERIES.contains(&&*one.text);
                if arguments.first().is_some_and(is_query) {
                    return None;
                }
                Some(Launch {
                    program: program.to_owned(),
                    arguments: without_mode(program, arguments),
                    ..Launch::default()
                })
            }
            Kind::Shell(at) => self.shell(&line[at + 1..], depth),
            Kind::Other => {
                let (first, rest) = line.split_first()?;
                let path = Path::new(&first.text);
                let text = self.script_text(path)?;
                self.file(&text, path, rest, depth)
            }
        }
    }

    /// What a shell with these arguments starts.
    fn shell(&self, arguments: &[Argument], depth: usize) -> Option<Launch> {
        let mut rest = arguments.iter().enumerate();
        let mut is_text = false;
        let (at, script) = loop {
            let (at, argument) = rest.next()?;
            match argument.text.strip_prefix(['-', '+']) {
                Some(letters) if !is_text => {
                    is_text = letters.contains('c') && !letters.starts_with('-');
                }
                // The name of a shell after busybox.
                None if !is_text && SHELLS.contains(&&*argument.text) => {}
                _ => break (at, argument),
            }
        };
        let after = &arguments[at + 1..];
        if !is_text {
            let path = Path::new(&script.text);
            let text = self.files.read(path).ok().flatten()?;
            return self.file(&String::from_utf8_lossy(&text), path, after, depth);
        }
        // The first argument after the text is the script's name.
        let mut shell = self.prepared("sh", after.get(1..).unwrap_or_default());
        shell.set("0", ("sh", &script.origin), false);
        self.script(
            shell.read_line(&script.text, script.origin.clone()),
            depth + 1,
        )
    }

    fn file(
        &self,
        text: &str,
        path: &Path,
        arguments: &[Argument],
        depth: usize,
    ) -> Option<Launch> {
        self.left.set(self.left.get().checked_sub(1)?);
        let shell = self.prepared(name_of(&path.to_string_lossy()), arguments);
        self.script(shell.read(text, path), depth + 1)
    }

    fn prepared(&self, name: &str, arguments: &[Argument]) -> Shell<'_> {
        let mut shell = Shell::new(self.files, name);
        for (name, (value, origin)) in self.environment {
            shell.set(name, (value, origin), true);
        }
        shell.set_arguments(arguments.to_vec());
        shell
    }

    /// What a script starts: the first daemon among its commands, or what the variables of `openrc-run` name.
    fn script(&self, script: Script, depth: usize) -> Option<Launch> {
        let mut found = script
            .commands
            .iter()
            .find_map(|command| self.line(command, depth));
        if found.is_none()
            && let Some(command) = script.variable("command")
        {
            let (text, origin) = command.text();
            let mut line = vec![Argument { text, origin }];
            let arguments = script.variable("command_args").map(Value::words);
            line.extend(arguments.unwrap_or_default());
            found = self.line(&line, depth);
        }
        let mut launch = found?;
        launch.sourced.extend(script.sourced.iter().cloned());
        launch.used.extend(script.used.iter().cloned());
        if let Some(driver) = script.variable("DOCKER_DRIVER")
            && driver.is_exported
        {
            launch
                .environment
                .entry("DOCKER_DRIVER".to_owned())
                .or_insert_with(|| driver.text());
        }
        launch.errors.extend(script.errors);
        Some(launch)
    }

    /// The text of a file that begins with `#!`; `None` for anything else.
    fn script_text(&self, path: &Path) -> Option<String> {
        if !path.is_absolute() {
            return None;
        }
        let mut start = [0; 2];
        let mut file = self.files.open(path).ok().flatten()?;
        file.read_exact(&mut start).ok()?;
        if start != *b"#!" {
            return None;
        }
        let text = self.files.read(path).ok().flatten()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }
}

fn kind(line: &[Argument]) -> Kind<'_> {
    let Some(first) = line.first() else {
        return Kind::Other;
    };
    let name = name_of(&first.text);
    let is_supervisor = SUPERVISORS.contains(&name);
    if is_supervisor && line.iter().any(|one| NO_START.contains(&&*one.text)) {
        return Kind::Other;
    }
    // `command -v` only asks where a program is.
    let asks = name == "command" && line.get(1).is_some_and(|one| one.text.starts_with('-'));
    let places = if is_supervisor || STARTERS.contains(&name) && !asks {
        0..line.len()
    } else {
        0..1
    };
    for at in places {
        let name = name_of(&line[at].text);
        let after = &line[at + 1..];
        let arguments = if is_supervisor {
            let end = after.iter().position(|one| one.text == "--");
            end.map_or(&after[..0], |end| &after[end + 1..])
        } else {
            after
        };
        if is_daemon(name) || is_docker(name) && runs_daemon(arguments) {
            return Kind::Daemon(at, arguments);
        }
        if SHELLS.contains(&name) {
            return Kind::Shell(at);
        }
    }
    Kind::Other
}

/// The last part of a path.
fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn is_daemon(name: &str) -> bool {
    name == "dockerd" || name.starts_with("dockerd-")
}

/// The program that is client and daemon, up to Docker 1.11.
fn is_docker(name: &str) -> bool {
    ["docker", "docker.io", "docker-current", "docker-latest"].contains(&name)
}

/// Whether these arguments make the client a daemon: `docker daemon`, or `docker -d` before 1.8.
fn runs_daemon(arguments: &[Argument]) -> bool {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match &*argument.text {
            "daemon" | "-d" | "--daemon" | "--daemon=true" => return true,
            flag if flag.starts_with('-') => {
                if takes_value(flag) == Some(true) {
                    rest.next();
                }
            }
            _ => return false,
        }
    }
    false
}

/// The arguments without the word that makes the client a daemon.
fn without_mode(program: &Path, arguments: &[Argument]) -> Vec<Argument> {
    let mut arguments = arguments.to_vec();
    if !is_daemon(name_of(&program.to_string_lossy())) {
        let is_mode =
            |one: &Argument| ["daemon", "-d", "--daemon", "--daemon=true"].contains(&&*one.text);
        if let Some(at) = arguments.iter().position(is_mode) {
            arguments.remove(at);
        }
    }
    arguments
}
