//! What is foreseen of Docker's first start, on hosts as they are in the wild.

mod config;
mod look_ahead;
mod start;
mod switch;
mod what_starts_docker;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use aufs2dm::daemon::Host;
use aufs2dm::daemon::first_start::{Outlook, Switch, look_ahead};
use aufs2dm::devicemapper::Target;
use aufs2dm::devicemapper::driver_files::FileSystem;
use aufs2dm::docker::{Orphans, Root, Survey};
use aufs2dm::units::Bytes;
use tempfile::TempDir;

use crate::docker::root as docker_root;

/// The unit of Debian's docker.io 20.10, shortened.
pub(super) const DEBIAN_UNIT: &str = "[Unit]\nAfter=network-online.target docker.socket\n[Service]\nType=notify\n\
    EnvironmentFile=-/etc/default/docker\n\
    ExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS\n";

/// Upstream's unit, shortened.
pub(super) const UPSTREAM_UNIT: &str = "[Service]\nType=notify\nExecStart=/usr/bin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock\n";

/// The unit of `CentOS` 7's docker 1.13, shortened.
pub(super) const CENTOS_UNIT: &str = "[Service]\nType=notify\nEnvironmentFile=-/etc/sysconfig/docker\n\
    EnvironmentFile=-/etc/sysconfig/docker-storage\nEnvironment=GOTRACEBACK=crash\n\
    ExecStart=/usr/bin/dockerd-current \\\n          --exec-opt native.cgroupdriver=systemd \\\n          $OPTIONS \\\n          \
    $DOCKER_STORAGE_OPTIONS\n";

/// What makes Docker take the root.
pub(super) const GOOD_CONFIG: &str = "{\n    \"storage-driver\": \"devicemapper\"\n}\n";

/// A host whose Docker 20.10 is told to use devicemapper.
pub(super) struct Machine {
    host: TempDir,
    pub(super) target: Target,
}

impl Machine {
    /// With a data directory that holds nothing.
    pub(super) fn new() -> Self {
        let host = TempDir::new().unwrap();
        for dir in [
            "aufs/layers",
            "aufs/diff",
            "image/aufs/imagedb/content/sha256",
            "image/aufs/layerdb/sha256",
            "image/aufs/layerdb/mounts",
            "containers",
        ] {
            fs::create_dir_all(host.path().join("docker").join(dir)).unwrap();
        }
        // An empty directory would not count as a driver's.
        fs::write(
            host.path().join("docker/image/aufs/repositories.json"),
            "{}",
        )
        .unwrap();
        Self::on(host)
    }

    /// With the small root.
    pub(super) fn with_containers() -> Self {
        Self::on(docker_root::unpack("small.tar.xz"))
    }

    fn on(host: TempDir) -> Self {
        let machine = Self {
            host,
            target: Target {
                storage_opts: Vec::new(),
                base_size: Bytes::gib(10),
                data_block: Bytes(64 << 10),
                file_system: FileSystem::Ext4,
                files: None,
                space: None,
            },
        };
        fs::create_dir_all(machine.at("/var/lib")).unwrap();
        symlink("/docker", machine.at("/var/lib/docker")).unwrap();
        machine
            .with("/lib/systemd/system/docker.service", DEBIAN_UNIT)
            .with("/lib/systemd/systemd-udevd", "")
            .with("/usr/sbin/dockerd", DAEMON)
            .with(
                "/var/lib/dpkg/status",
                &package("docker.io", "20.10.24+dfsg1-1"),
            )
            .with("/etc/docker/daemon.json", GOOD_CONFIG)
    }

    /// Where a file of the host is.
    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.host.path().join(path.trim_start_matches('/'))
    }

    pub(super) fn with(self, path: &str, text: &str) -> Self {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
        self
    }

    pub(super) fn without(self, path: &str) -> Self {
        fs::remove_file(self.at(path)).unwrap();
        self
    }

    pub(super) fn wants(mut self, options: &[&str]) -> Self {
        self.target.storage_opts = options.iter().map(|one| (*one).to_owned()).collect();
        self
    }

    pub(super) fn host(&self) -> Host {
        Host {
            root: self.at("/"),
            ..Host::default()
        }
    }

    pub(super) fn outlook(&self) -> Outlook {
        self.outlook_after(None)
    }

    pub(super) fn outlook_after(&self, switch: Option<&Switch>) -> Outlook {
        let root = Root::open(&self.at("/docker")).unwrap();
        let model = Survey::read(&root).into_model(Orphans::Convert).unwrap();
        look_ahead(&self.host(), &root, &model, &self.target, switch)
    }

    /// The findings as `code: message` with the host's own paths.
    pub(super) fn findings(&self) -> Vec<String> {
        let findings = self.outlook().findings.into_iter();
        findings
            .map(|finding| self.shorten(&format!("{}: {}", finding.code, finding.message)))
            .collect()
    }

    pub(super) fn shorten(&self, text: &str) -> String {
        let host = self.at("/").canonicalize().unwrap();
        text.replace(&format!("{}/", host.display()), "/")
    }
}

/// Text that is in the program of a daemon with the driver.
pub(super) const DAEMON: &str =
    "\x7fELF [graphdriver] trying devmapper: Unable to take ownership of thin-pool (%s)";

/// A package database with one package of Docker.
pub(super) fn package(name: &str, version: &str) -> String {
    format!(
        "Package: bash\nStatus: install ok installed\nVersion: 25.1\n\nPackage: {name}\nStatus: install ok installed\n\
         Version: {version}\n"
    )
}
