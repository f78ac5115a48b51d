//! Scripts that start a daemon on hosts without a unit for it: upstart, System V init, `OpenRC`, runit, `rc.local`.
//!
//! Source: moby v20.10 `contrib/init/`; openrc-run(8), init(5) of upstart, runsv(8).

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use memchr::memmem;

use super::env_file::Reader;
use super::host_files::HostFiles;
use super::launch::{Launch, follow, follow_script};
use super::service::{Service, arguments};
use super::setting::Origin;
use super::unit;

/// A script of Docker's own name, with the files that it reads and the variables that hold flags there. They count if
/// its text does not show what it starts.
struct Known {
    path: &'static str,
    settings: &'static [&'static str],
    variables: &'static [&'static str],
}

const KNOWN: [Known; 4] = [
    Known {
        path: UPSTART,
        settings: &["/etc/default/docker"],
        variables: &["DOCKER_OPTS"],
    },
    Known {
        path: "/etc/init.d/docker",
        settings: &[
            "/etc/default/docker",
            "/etc/conf.d/docker",
            "/etc/sysconfig/docker",
            "/etc/sysconfig/docker-storage",
        ],
        variables: &[
            "DOCKER_OPTS",
            "OPTIONS",
            "other_args",
            "DOCKER_STORAGE_OPTIONS",
        ],
    },
    Known {
        path: "/etc/rc.d/init.d/docker",
        settings: &["/etc/sysconfig/docker", "/etc/sysconfig/docker-storage"],
        variables: &["OPTIONS", "other_args", "DOCKER_STORAGE_OPTIONS"],
    },
    Known {
        path: "/etc/rc.d/rc.docker",
        settings: &["/etc/default/docker"],
        variables: &["DOCKER_OPTS"],
    },
];

/// Upstart's job.
const UPSTART: &str = "/etc/init/docker.conf";

/// Directories of such scripts, with the name of the script in each entry, if the entries are directories.
const DIRECTORIES: [(&str, &str); 7] = [
    ("/etc/init", ""),
    ("/etc/init.d", ""),
    ("/etc/rc.d/init.d", ""),
    ("/etc/supervisor/conf.d", ""),
    ("/etc/supervisord.d", ""),
    ("/etc/sv", "run"),
    ("/etc/service", "run"),
];

/// Scripts that are run at boot.
const AT_BOOT: [&str; 3] = [
    "/etc/rc.local",
    "/etc/rc.d/rc.local",
    "/etc/local.d/docker.start",
];

/// The script of Docker's own name that starts it. `has_upstart` is false if jobs of upstart have no effect.
pub(super) fn own_script(files: &HostFiles, has_upstart: bool) -> Option<Service> {
    let known = KNOWN
        .iter()
        .filter(|known| has_upstart || known.path != UPSTART)
        .find(|known| files.exists(Path::new(known.path)))?;
    let path = Path::new(known.path);
    let mut service = Service::at(files, path);
    if let Some(launch) = read(files, path) {
        service.set_launch(launch);
        return Some(service);
    }
    for path in known.settings {
        service.environment_files.push(PathBuf::from(path));
        service.read_variables(files, Path::new(path), Reader::Shell);
    }
    for name in known.variables {
        service.push_variable(name);
    }
    Some(service)
}

/// Other scripts that start a daemon.
pub(super) fn other_scripts(files: &HostFiles, has_upstart: bool) -> Vec<Service> {
    let mut paths: Vec<PathBuf> = AT_BOOT.iter().map(PathBuf::from).collect();
    for (dir, inner) in DIRECTORIES {
        if dir == "/etc/init" && !has_upstart {
            continue;
        }
        for name in files.names(Path::new(dir)) {
            let path = Path::new(dir).join(name);
            paths.push(if inner.is_empty() {
                path
            } else {
                path.join(inner)
            });
        }
    }
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for path in paths {
        let place = files.place(&path);
        let is_own = KNOWN.iter().any(|known| Path::new(known.path) == path);
        if is_own || seen.contains(&place) {
            continue;
        }
        seen.push(place);
        let text = files.read(&path).ok().flatten().unwrap_or_default();
        if memmem::find(&text, b"docker").is_none() {
            continue;
        }
        if let Some(launch) = read(files, &path) {
            let mut service = Service::at(files, &path);
            service.set_launch(launch);
            found.push(service);
        }
    }
    found
}

/// What a script starts.
fn read(files: &HostFiles, path: &Path) -> Option<Launch> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    if directory
        .as_os_str()
        .as_bytes()
        .starts_with(b"/etc/supervisor")
    {
        return supervised(files, path);
    }
    let text = files.read(path).ok().flatten()?;
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let is_openrc = [&b"openrc-run"[..], b"runscript"]
        .iter()
        .any(|name| memmem::find(first, name).is_some());
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    follow_script(files, path, |shell| {
        let origin = Origin {
            path: files.place(path),
            line: 0,
        };
        for variable in ["UPSTART_JOB", "RC_SVCNAME", "SVCNAME"] {
            shell.set(variable, (&*name, &origin), false);
        }
        if is_openrc {
            shell.source(&Path::new("/etc/conf.d").join(&*name));
        }
    })
}

/// What a program's section of supervisord starts.
fn supervised(files: &HostFiles, path: &Path) -> Option<Launch> {
    let text = files.read(path).ok().flatten()?;
    let place = files.place(path);
    let programs = unit::parse(&text).into_iter();
    let mut commands = programs.filter(|one| one.key == "command");
    commands.find_map(|one| {
        let origin = Origin {
            path: place.clone(),
            line: one.line_of(0),
        };
        let line = arguments(&one.value, &origin);
        follow(files, &line, &std::collections::BTreeMap::new())
    })
}
