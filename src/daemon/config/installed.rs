//! Which Docker is installed, and whether it has the devicemapper driver.
//!
//! Release 25.0 removed the driver, and a build can leave it out (`exclude_graphdriver_devicemapper`, static binaries
//! since 17.10). If the host is this system, the version comes from the program itself, otherwise from the package
//! database. Whether the driver is included is determined from strings in the program file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memchr::memmem::Finder;

use super::host_files::HostFiles;
use crate::daemon::first_start::Finding;
use crate::devicemapper::Version;
use crate::sys::program;
use crate::tree::shown;

/// The paths of the daemon's program if the service does not name it. Up to 1.11, client and daemon are one program.
const PROGRAMS: [&str; 7] = [
    "/usr/bin/dockerd",
    "/usr/sbin/dockerd",
    "/usr/local/bin/dockerd",
    "/usr/local/sbin/dockerd",
    "/usr/bin/dockerd-current",
    "/usr/bin/dockerd-ce",
    "/usr/bin/docker",
];

/// Debian packages of Docker.
const PACKAGES: [&[u8]; 6] = [
    b"docker.io",
    b"docker-ce",
    b"docker-engine",
    b"docker-ee",
    b"moby-engine",
    b"lxc-docker",
];

/// A string in every program that has the driver, since 1.4.
const DRIVER_TEXT: &[u8] = b"Unable to take ownership of thin-pool";

/// A string in every daemon program.
const DAEMON_TEXT: &[u8] = b"[graphdriver] ";

/// The number of bytes of a program that are searched. Daemons have up to 120 MB.
const MAX_SEARCHED: u64 = 512 << 20; // 512 MiB

/// How long a program may take to print its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// The first release without the devicemapper driver.
const REMOVED: Version = Version::new(25, 0);

/// What is known about the installed Docker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::daemon) struct InstalledDocker {
    /// Its version.
    pub(in crate::daemon) version: Option<Version>,
    /// Whether its program contains the driver.
    has_driver: Option<bool>,
    /// The program's path on this system.
    program: Option<PathBuf>,
}

impl InstalledDocker {
    /// Looks for Docker. `told` is the program that the service starts.
    pub(in crate::daemon) fn find(files: &HostFiles, told: Option<&Path>) -> Self {
        let told = told.filter(|path| path.is_absolute());
        let program = told
            .into_iter()
            .chain(PROGRAMS.iter().map(Path::new))
            .find(|path| files.open(path).is_ok_and(|file| file.is_some()));
        let Some(path) = program else {
            return Self {
                version: package_version(files),
                ..Self::default()
            };
        };
        let place = files.place(path);
        let own_word = || {
            files
                .is_running_system()
                .then(|| own_word(&place))
                .flatten()
        };
        let opened = files.open(path).ok().flatten();
        Self {
            version: own_word().or_else(|| package_version(files)),
            has_driver: opened.and_then(has_driver),
            program: Some(place),
        }
    }

    /// What the operator should know about it.
    pub(in crate::daemon) fn findings(&self) -> Vec<Finding> {
        if let Some(version) = self.version.filter(|version| *version >= REMOVED) {
            let message = format!(
                "Docker {version} is installed and has no devicemapper driver: install a version older than 25.0 \
                 before Docker is started"
            );
            return vec![Finding::refusal("driver-removed", message)];
        }
        let mut findings = Vec::new();
        match (&self.program, self.has_driver) {
            (None, _) if self.version.is_none() => findings.push(Finding::remark(
                "docker-unknown",
                "no installed Docker was found, so it is not known whether it has the devicemapper driver, which was \
                 removed in 25.0",
            )),
            (Some(program), Some(false)) => findings.push(Finding::refusal(
                "driver-left-out",
                format!(
                    "{}: was built without the devicemapper driver: install a Docker that has it",
                    shown(program)
                ),
            )),
            (Some(program), None) => findings.push(Finding::remark(
                "driver-unknown",
                format!(
                    "{}: it is not known whether it has the devicemapper driver: `docker info` lists the driver when \
                     it is in use",
                    shown(program)
                ),
            )),
            _ => {}
        }
        if let (Some(program), None) = (&self.program, self.version) {
            let message = format!(
                "{}: its version is not known: 23.0 and later use devicemapper only if it is set explicitly, and 25.0 \
                 removed it",
                shown(program)
            );
            findings.push(Finding::remark("version-unknown", message));
        }
        findings
    }
}

/// The version that the program reports. It is the host's own daemon, and with this option it only prints.
fn own_word(program: &Path) -> Option<Version> {
    let is_executable = program
        .metadata()
        .is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0);
    if !is_executable {
        return None;
    }
    let begin = Instant::now();
    let is_late = || begin.elapsed() > PATIENCE;
    let ended = program::run(program, ["--version"], is_late).ok()?;
    let text = String::from_utf8(ended.stdout).ok()?;
    ended
        .status
        .success()
        .then(|| Version::of_output(&text))
        .flatten()
}

/// Whether a program contains the driver; `None` if it is not a daemon's program, for example a wrapper script.
fn has_driver(program: File) -> Option<bool> {
    let texts = [Finder::new(DRIVER_TEXT), Finder::new(DAEMON_TEXT)];
    let mut found = [false; 2];
    let longest = DRIVER_TEXT.len().max(DAEMON_TEXT.len()) as u64;
    let mut program = program.take(MAX_SEARCHED);
    let mut buffer = Vec::new();
    loop {
        // The end of one piece is searched again together with the next.
        let keep = buffer
            .len()
            .saturating_sub(usize::try_from(longest).unwrap_or(0));
        buffer.drain(..keep);
        let read = program
            .by_ref()
            .take(1 << 20)
            .read_to_end(&mut buffer)
            .ok()?;
        for (text, found) in texts.iter().zip(&mut found) {
            *found = *found || text.find(&buffer).is_some();
        }
        if found[0] {
            return Some(true);
        }
        if read == 0 {
            return found[1].then_some(false);
        }
    }
}

/// The version of an installed Debian package.
fn package_version(files: &HostFiles) -> Option<Version> {
    let status = files
        .read(Path::new("/var/lib/dpkg/status"))
        .ok()
        .flatten()?;
    let mut package = Package::default();
    // An empty line ends each package.
    for line in status.split(|byte| *byte == b'\n').chain([&b""[..]]) {
        if line.is_empty() {
            if let Some(version) = package
                .version
                .filter(|_| package.is_docker && package.is_installed)
            {
                return Some(version);
            }
            package = Package::default();
        } else if let Some(name) = line.strip_prefix(b"Package: ") {
            package.is_docker = PACKAGES.contains(&name);
        } else if let Some(status) = line.strip_prefix(b"Status: ") {
            package.is_installed = status.ends_with(b" installed");
        } else if let Some(version) = line.strip_prefix(b"Version: ") {
            package.version = std::str::from_utf8(version).ok().and_then(Version::parse);
        }
    }
    None
}

#[derive(Default)]
struct Package {
    is_docker: bool,
    is_installed: bool,
    version: Option<Version>,
}
