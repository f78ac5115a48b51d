//! The paths where a daemon of a host may have its pid file.
//!
//! With a pid file that is not known, a daemon can start during a conversion, so this prefers too many over too few:
//! what any unit, script or settings file names counts, whether or not it is in use.
//!
//! Source: moby v20.10 `cmd/dockerd/config_unix.go`, `installConfigFlags`, and `pkg/homedir/homedir_linux.go` for
//! rootless daemons; canonical/docker-snap `bin/dockerd-wrapper`, which had it in `$SNAP_DATA/run` until 2020 and has
//! had it in `/run/snap.$SNAP_INSTANCE_NAME` since.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::appliance::settings_files;
use super::config_file::Config;
use super::env_file::{self, Reader};
use super::flags;
use super::host_files::HostFiles;
use super::scripts::other_scripts;
use super::service::arguments;
use super::setting::{Directive, Origin, Setting, Way};
use super::settings::CONFIG_FILE;
use super::systemd::every_unit;

/// The default path.
const DEFAULT: &str = "/var/run/docker.pid";

/// The file's name if only its directory is known.
const NAME: &str = "docker.pid";

/// Files that hold the flags of daemons in shell variables.
const SETTINGS: [&str; 5] = [
    "/etc/default/docker",
    "/etc/sysconfig/docker",
    "/etc/sysconfig/docker-storage",
    "/etc/conf.d/docker",
    "/var/lib/boot2docker/profile",
];

/// Scripts that start a daemon where there is no systemd.
const SCRIPTS: [&str; 3] = [
    "/etc/init.d/docker",
    "/etc/init/docker.conf",
    "/etc/rc.d/rc.docker",
];

/// The names of the variables that scripts use for it.
const VARIABLES: [&str; 3] = ["DOCKER_PIDFILE", "PIDFILE", "pidfile"];

/// The default pid file on the host below `host_root`, as a path on this system.
pub fn default_pid_file(host_root: &Path) -> PathBuf {
    place(&HostFiles::new(host_root), Path::new(DEFAULT))
}

/// All pid files that a daemon of the host below `host_root` could use, as paths on this system, the default first.
/// Changes nothing; a file that cannot be read adds none.
pub fn pid_files(host_root: &Path) -> Vec<PathBuf> {
    let files = &HostFiles::new(host_root);
    let mut named = PidFilePaths {
        pid_files: vec![DEFAULT.into()],
        configs: std::iter::once(CONFIG_FILE.into())
            .chain(settings_files())
            .collect(),
    };
    for service in every_unit(files) {
        named.add(flags::read(&service.arguments));
    }
    for service in other_scripts(files, true) {
        named.add(flags::read(&service.arguments));
    }
    for path in SETTINGS.iter().chain(&SCRIPTS).map(Path::new) {
        let text = files.read(path).ok().flatten().unwrap_or_default();
        named.add_shell(&text);
    }
    named.add_snaps(files);
    for config in std::mem::take(&mut named.configs) {
        let text = files.read(&config).ok().flatten().unwrap_or_default();
        if let Ok(config) = Config::parse(&text) {
            named.add(config.told(Path::new("")));
        }
    }
    named.add_rootless(files);
    let mut places: Vec<PathBuf> = Vec::new();
    for path in &named.pid_files {
        let place = place(files, path);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// Resolves only the directory: whoever takes the pid file checks what is there.
fn place(files: &HostFiles, path: &Path) -> PathBuf {
    match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) => files.place(dir).join(name),
        _ => files.place(path),
    }
}

/// The paths found so far, as the host names them.
struct PidFilePaths {
    pid_files: Vec<PathBuf>,
    /// Files like `daemon.json`.
    configs: Vec<PathBuf>,
}

impl PidFilePaths {
    fn add(&mut self, told: impl IntoIterator<Item = Setting>) {
        for one in told {
            match one.directive {
                Directive::PidFile => self.add_pid_file(&one.value),
                Directive::ConfigFile => self.configs.push(Path::new("/").join(one.value)),
                _ => {}
            }
        }
    }

    /// Adds a pid file. Relative names start at `/`, the daemons' working directory. An empty name means no pid file,
    /// and a name with an unknown variable is skipped.
    fn add_pid_file(&mut self, name: &str) {
        // systemd.unit(5), "Specifiers": the runtime directory.
        let name = match name.strip_prefix("%t/") {
            Some(rest) => format!("run/{rest}"),
            None => name.to_owned(),
        };
        if !name.is_empty() && !name.contains('$') {
            self.pid_files.push(Path::new("/").join(name));
        }
    }

    /// Adds what a shell script names: in variables that hold flags, in variables that hold a file name, and in
    /// commands that start a daemon.
    fn add_shell(&mut self, text: &[u8]) {
        for variable in env_file::parse(text, Reader::Shell) {
            if VARIABLES.contains(&&*variable.name) {
                self.add_pid_file(&variable.value);
            } else {
                self.add(flags::read(&arguments(&variable.value, &Origin::default())));
            }
        }
        for line in String::from_utf8_lossy(text).lines() {
            let told = flags::read(&arguments(line, &Origin::default()));
            // A `-p` in a script usually belongs to `mkdir`.
            let is_long =
                |one: &Setting| matches!(&one.way, Way::Flag(given) if given.starts_with("--"));
            self.add(told.into_iter().filter(is_long));
        }
    }

    /// Adds the snaps' files. A snap may be installed more than once, each time under its own name: `docker_NAME`.
    fn add_snaps(&mut self, files: &HostFiles) {
        let is_snap = |name: &[u8]| name == b"docker" || name.starts_with(b"docker_");
        for name in files.names(Path::new("/run")) {
            if name.as_bytes().strip_prefix(b"snap.").is_some_and(is_snap) {
                let dir = Path::new("/run").join(name);
                self.pid_files.push(dir.join(NAME));
            }
        }
        let snaps = Path::new("/var/snap");
        let names = files.names(snaps).into_iter();
        for snap in names.filter(|name| is_snap(name.as_bytes())) {
            let snap = snaps.join(snap);
            for revision in files.names(&snap) {
                let data = snap.join(revision);
                self.pid_files.push(data.join("run").join(NAME));
                self.configs.push(data.join("config/daemon.json"));
                self.configs.push(data.join("etc/docker/daemon.json"));
            }
        }
    }

    fn add_rootless(&mut self, files: &HostFiles) {
        let users = Path::new("/run/user");
        for user in files.names(users) {
            self.pid_files.push(users.join(user).join(NAME));
        }
        if files.is_running_system()
            && let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty())
        {
            self.pid_files.push(Path::new("/").join(dir).join(NAME));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Host {
        dir: tempfile::TempDir,
    }

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self { dir }
        }

        fn write(&self, path: &str, text: &str) -> &Self {
            let path = self.dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        /// The paths found besides the default, relative to the host's root.
        fn found(&self) -> Vec<String> {
            let all = pid_files(self.dir.path());
            assert_eq!(all[0], default_pid_file(self.dir.path()));
            let inside = |path: &PathBuf| {
                let inside = path.strip_prefix(self.dir.path()).unwrap();
                inside.to_str().unwrap().to_owned()
            };
            all[1..].iter().map(inside).collect()
        }
    }

    const UNIT: &str =
        "[Service]\nEnvironmentFile=-/etc/x\nExecStart=/usr/bin/dockerd -H fd:// $A\n";

    #[test]
    fn the_default_is_below_the_hosts_root_whatever_links_lead_there() {
        let host = Host::new();
        fs::create_dir_all(host.dir.path().join("run")).unwrap();
        fs::create_dir_all(host.dir.path().join("var")).unwrap();
        symlink("/run", host.dir.path().join("var/run")).unwrap();
        let path = host.dir.path().join("run/docker.pid");
        assert_eq!(default_pid_file(host.dir.path()), path);
        assert_eq!(host.found(), [""; 0]);
    }

    #[test]
    fn each_way_to_tell_a_daemon_of_a_pid_file_is_read() {
        let pid = "run/x.pid";
        let drop_in = "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd --pidfile /run/x.pid\n";
        let other = "[Service]\nExecStart=/usr/bin/dockerd -p %t/x.pid\n";
        let named = "[Service]\nExecStart=/usr/bin/dockerd --config-file=/etc/y.json\n";
        let json = r#"{"pidfile": "/run/x.pid"}"#;
        for files in [
            &[("etc/docker/daemon.json", json)][..],
            &[
                ("lib/systemd/system/docker.service", named),
                ("etc/y.json", json),
            ],
            &[
                ("lib/systemd/system/docker.service", UNIT),
                ("etc/x", "A=-p/run/x.pid\n"),
            ],
            &[
                ("lib/systemd/system/docker.service", UNIT),
                ("etc/systemd/system/docker.service.d/10.conf", drop_in),
            ],
            &[("etc/systemd/system/docker-b.service", other)],
            // Of two units with the same name, systemd could use the other one after it reloads its units.
            &[
                ("etc/systemd/system/docker.service", UNIT),
                ("lib/systemd/system/docker.service", other),
            ],
            &[(
                "etc/default/docker",
                "DOCKER_OPTS=\"--pidfile=/run/x.pid\"\n",
            )],
            &[("etc/sysconfig/docker", "OPTIONS='--debug -p=/run/x.pid'\n")],
            &[("etc/conf.d/docker", "export DOCKER_PIDFILE=/run/x.pid\n")],
            &[(
                "etc/init.d/docker",
                "BASE=x\nDOCKER_PIDFILE=/run/$BASE.pid\n",
            )],
            &[(
                "etc/init/docker.conf",
                "exec /usr/bin/dockerd --pidfile /run/x.pid\n",
            )],
            &[("var/snap/docker/current/config/daemon.json", json)],
        ] {
            let host = Host::new();
            for (path, text) in files {
                host.write(path, text);
            }
            assert!(
                host.found().contains(&pid.to_owned()),
                "{files:?}: {:?}",
                host.found()
            );
        }
    }

    #[test]
    fn snaps_and_users_have_theirs() {
        let host = Host::new();
        for path in [
            "run/snap.docker/x",
            "run/snap.docker_two/x",
            "run/snap.dockerish/x",
            "var/snap/docker/471/run/x",
            "run/user/1000/x",
        ] {
            host.write(path, "");
        }
        assert_eq!(
            host.found(),
            [
                "run/snap.docker/docker.pid",
                "run/snap.docker_two/docker.pid",
                "var/snap/docker/471/run/docker.pid",
                "run/user/1000/docker.pid",
            ]
        );
    }

    #[test]
    fn what_is_no_name_is_none_and_nothing_leads_out_of_the_host() {
        let host = Host::new();
        host.write(
            "etc/init.d/docker",
            "start-stop-daemon --pidfile \"$DOCKER_PIDFILE\"\nmkdir -p /etc/dockerd\n",
        );
        host.write("etc/default/docker", "A=\"--pidfile=\"\n");
        host.write(
            "etc/docker/daemon.json",
            r#"{"pidfile": "/../../up/../x.pid"}"#,
        );
        assert_eq!(host.found(), ["x.pid"]);
    }
}
