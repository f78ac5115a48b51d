//! Checks for a running Docker by all signs together.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::candidates::candidates;
use super::finding::{Finding, Host, KnownContainer, Notice, RunningDocker};
use super::{devices, mounts, processes};
use crate::docker::{ContainerId, DataDir, Diagnostics, ReadError, read_containers};
use crate::tree::shown;

/// Checks that no daemon and no container uses the root. Changes nothing.
///
/// # Errors
/// [`RunningDocker::Found`] with every sign found.
pub fn check_stopped(root: &DataDir, host: &Host) -> Result<Vec<Notice>, RunningDocker> {
    let mut findings = processes::in_pid_files(&candidates(host), host);
    let processes = processes::list(&host.proc);
    findings.extend(processes::on_root(&processes, root, host));
    findings.extend(locked(root)?);
    findings.extend(mounts::mounted(&processes, root, host));
    findings.extend(mounts::branches_in_use(root, host));
    findings.extend(processes::of_containers(
        &processes,
        &containers(root)?,
        host,
    ));
    if findings.is_empty() {
        // Only if nothing is running: a running Docker has active devices.
        findings.extend(devices::active(&root.path().join("devicemapper"), host));
    }
    if findings.is_empty() {
        Ok(mounts::notices(root, host))
    } else {
        Err(RunningDocker::Found { findings })
    }
}

/// Checks that no device is active that Docker made, or would find, for the home of the devicemapper driver: the
/// directory `devicemapper` of a root, or one that is to become it. Changes nothing.
///
/// # Errors
/// [`RunningDocker::Found`] with the active devices.
pub fn check_devices(home: &Path, host: &Host) -> Result<(), RunningDocker> {
    let findings = devices::active(home, host);
    if findings.is_empty() {
        Ok(())
    } else {
        Err(RunningDocker::Found { findings })
    }
}

pub(super) fn containers(
    root: &DataDir,
) -> Result<BTreeMap<ContainerId, KnownContainer>, ReadError> {
    let entries = root.dir.list_if_any("containers")?;
    let ids = entries
        .iter()
        .filter_map(|entry| ContainerId::parse(entry.name.as_bytes()).ok());
    let mut known: BTreeMap<_, _> = ids.map(|id| (id, KnownContainer::default())).collect();
    // Damaged configs are reported by the survey.
    for (id, container) in read_containers(&root.dir, &mut Diagnostics::default()) {
        let pid = u32::try_from(container.pid).ok().filter(|pid| *pid > 0);
        known.insert(
            id,
            KnownContainer {
                name: container.name,
                pid,
            },
        );
    }
    Ok(known)
}

/// Databases that a daemon keeps locked while it runs: volumes (1.11+), build cache (18.06+), the containerd that it
/// runs itself.
const DATABASES: [(&str, &str); 3] = [
    ("volumes", "metadata.db"),
    ("buildkit", "snapshots.db"),
    (
        "containerd/daemon/io.containerd.metadata.v1.bolt",
        "meta.db",
    ),
];

/// Tries to lock each database and releases the lock at once. A shared lock on a file that is open for reading leaves
/// no trace.
pub(super) fn locked(root: &DataDir) -> Result<Vec<Finding>, ReadError> {
    let mut findings = Vec::new();
    for (dir, name) in DATABASES {
        let mut at = Some(root.dir.dir(".")?);
        // Links are followed, as the daemon does.
        for part in dir.split('/') {
            at = at.map_or(Ok(None), |dir| dir.dir_following_if_any(part))?;
        }
        let Some(dir) = at.filter(|dir| matches!(dir.kind(name), Ok(Some(_)))) else {
            continue;
        };
        match Flock::lock(dir.file(name)?, FlockArg::LockSharedNonblock) {
            Err((_, Errno::EWOULDBLOCK)) => findings.push(Finding::Locked {
                path: dir.join(name),
            }),
            Err((_, errno)) => {
                log::debug!("{}: cannot test its lock: {errno}", shown(&dir.join(name)));
            }
            Ok(_) => {}
        }
    }
    Ok(findings)
}
