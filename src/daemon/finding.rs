//! The signs that a Docker is running.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use crate::docker::{ContainerId, ReadError};
use crate::tree::shown;

/// The places where the running system is examined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The process file system.
    pub proc: PathBuf,
    /// aufs's directory in sysfs.
    pub sys_aufs: PathBuf,
    /// A pid file of Docker's that is checked in addition to those that the host's settings name: the default one, or
    /// the one that the operator named.
    pub pid_file: PathBuf,
    /// The host's `/`, or where it is mounted in a rescue system. Docker's configuration is looked up below it.
    pub root: PathBuf,
}

/// The default places.
impl Default for Host {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            sys_aufs: "/sys/fs/aufs".into(),
            pid_file: "/var/run/docker.pid".into(),
            root: "/".into(),
        }
    }
}

/// One sign that Docker, or one of its containers, is running.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Finding {
    /// The process in the pid file is a running daemon.
    #[error(
        "docker is running: process {pid}, according to {}: stop docker and docker.socket",
        shown(pid_file)
    )]
    PidFile {
        /// The daemon.
        pid: u32,
        /// The file.
        pid_file: PathBuf,
    },
    /// A daemon uses this root.
    #[error("docker is running: process {pid} uses this root: stop it")]
    Daemon {
        /// The daemon.
        pid: u32,
    },
    /// A daemon holds the lock of one of its databases.
    #[error(
        "docker is running: {} is locked: stop docker and docker.socket",
        shown(path)
    )]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// A layer is mounted in some mount namespace.
    #[error(
        "{}: is mounted in the mount namespace of process {pid}: stop docker and its containers, or unmount it",
        shown(mount_point)
    )]
    Mounted {
        /// The mount point.
        mount_point: PathBuf,
        /// A process that sees it.
        pid: u32,
    },
    /// A layer is part of a live aufs mount.
    #[error(
        "{}: is in use by an aufs mount: stop docker and its containers",
        shown(branch)
    )]
    BranchInUse {
        /// The layer's branch directory.
        branch: PathBuf,
    },
    /// A device of the devicemapper driver is active: a daemon is running unseen, or one was killed.
    #[error(
        "device-mapper device {name}: is active: stop docker and its containers; if docker was killed and left it \
         behind: {command}"
    )]
    Device {
        /// Its name.
        name: String,
        /// The command that removes it.
        command: String,
    },
    /// A file of the devicemapper driver's pool is attached to a loop device.
    #[error(
        "{}: is attached to {}: stop what uses it, then run: {command}",
        shown(file),
        shown(node)
    )]
    LoopDevice {
        /// The file.
        file: PathBuf,
        /// The loop device.
        node: PathBuf,
        /// The command that detaches it.
        command: String,
    },
    /// A container's process is running. With live-restore, it runs without the daemon.
    #[error("container {}: is still running as process {pid}: stop it", NameOrId { id, name })]
    Container {
        /// The container.
        id: ContainerId,
        /// Its name; empty if it is not known.
        name: String,
        /// One of its processes.
        pid: u32,
    },
}

struct NameOrId<'a> {
    id: &'a ContainerId,
    name: &'a str,
}

impl fmt::Display for NameOrId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            self.id.fmt(f)
        } else {
            f.write_str(self.name)
        }
    }
}

/// Docker is not stopped.
#[derive(Debug, Error)]
pub enum RunningDocker {
    /// There are signs that it is running.
    #[error("{}", Listing(findings))]
    Found {
        /// At least one.
        findings: Vec<Finding>,
    },
    /// The signs could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

struct Listing<'a>(&'a [Finding]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        for (index, finding) in self.0.iter().take(SHOWN).enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{finding}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// A fact about a stopped root that the operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A directory of the root is a mount point, usually because an old daemon mounted it on itself: it cannot be
    /// renamed.
    MountPoint {
        /// The directory.
        path: PathBuf,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MountPoint { path } => {
                write!(
                    f,
                    "{}: is a mount point, so it cannot be renamed",
                    shown(path)
                )
            }
        }
    }
}

/// What is known about a container here, whether or not its config can be read.
#[derive(Debug, Default)]
pub(super) struct KnownContainer {
    pub(super) name: String,
    /// Its first process, if the config says that it is running.
    pub(super) pid: Option<u32>,
}
