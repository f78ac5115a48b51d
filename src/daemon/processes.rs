//! Processes that are a Docker daemon or belong to a container.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::config::data_root_of_daemon;
use super::finding::{Finding, Host, KnownContainer};
use crate::docker::{ContainerId, DataDir};

/// A process and its command line.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    args: Vec<Vec<u8>>,
}

/// All visible processes except this one. A process that ends in the meantime is skipped.
pub(super) fn list(proc: &Path) -> Vec<Process> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let others = pids.filter(|pid| *pid != std::process::id());
    others
        .filter_map(|pid| {
            Some(Process {
                pid,
                args: command_line(proc, pid)?,
            })
        })
        .collect()
}

fn command_line(proc: &Path, pid: u32) -> Option<Vec<Vec<u8>>> {
    let text = fs::read(proc.join(pid.to_string()).join("cmdline")).ok()?;
    Some(
        text.split(|byte| *byte == 0)
            .filter(|arg| !arg.is_empty())
            .map(<[u8]>::to_vec)
            .collect(),
    )
}

/// The process id in a pid file's text.
pub(super) fn parse_pid(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// Whether a process with this id exists and is a Docker daemon. After a crash, the id can belong to any process.
pub(super) fn is_live_daemon(proc: &Path, pid: u32) -> bool {
    command_line(proc, pid).is_some_and(|args| is_daemon(&args))
}

/// The running daemons that pid files name.
pub(super) fn in_pid_files(pid_files: &[PathBuf], host: &Host) -> Vec<Finding> {
    let finding = |pid_file: &PathBuf| {
        let pid = read_pid(pid_file).filter(|pid| is_live_daemon(&host.proc, *pid))?;
        Some(Finding::PidFile {
            pid,
            pid_file: pid_file.clone(),
        })
    };
    pid_files.iter().filter_map(finding).collect()
}

/// The process id in a pid file. The path comes from settings, so the file may be anything.
pub(super) fn read_pid(path: &Path) -> Option<u32> {
    const MAX_BYTES: u64 = 64; // a number needs ten
    let is_file = fs::metadata(path).is_ok_and(|meta| meta.is_file());
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits());
    let file = is_file.then(|| options.open(path).ok()).flatten()?;
    let mut text = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut text).ok()?;
    parse_pid(&text)
}

/// Whether the command line is a daemon's: `dockerd` since 1.12 (with a suffix in some distributions), `docker daemon`
/// since 1.8, `docker -d` before.
fn is_daemon(args: &[Vec<u8>]) -> bool {
    let Some((program, args)) = args.split_first() else {
        return false; // a kernel thread, or one that has ended
    };
    match program
        .rsplit(|byte| *byte == b'/')
        .next()
        .unwrap_or_default()
    {
        b"dockerd" | b"dockerd-ce" | b"dockerd-current" | b"dockerd-latest" => true,
        b"docker" => is_daemon_command(args),
        _ => false,
    }
}

/// Distinguishes `docker -g /data -d` from `docker run -d`: skips a flag's value and takes the first other word as the
/// command.
fn is_daemon_command(args: &[Vec<u8>]) -> bool {
    let mut args = args.iter().map(Vec::as_slice);
    while let Some(arg) = args.next() {
        match arg {
            b"-d" | b"--daemon" | b"-d=true" | b"--daemon=true" | b"daemon" => return true,
            b"-D" | b"--debug" => {}
            _ if !arg.starts_with(b"-") => return false,
            _ if arg.contains(&b'=') => {}
            _ => {
                let value = args.next();
                if matches!(value, Some(b"-d" | b"daemon")) {
                    return true;
                }
            }
        }
    }
    false
}

/// Flags that name the root directory.
const ROOT_FLAGS: [&[u8]; 3] = [b"--data-root", b"--graph", b"-g"];

/// The path that the last of these flags on a daemon's command line gives.
fn told(args: &[Vec<u8>], flags: &[&[u8]]) -> Option<PathBuf> {
    let mut path = None;
    for (index, arg) in args.iter().enumerate() {
        let mut parts = arg.splitn(2, |byte| *byte == b'=');
        if !flags.contains(&parts.next().unwrap_or_default()) {
            continue;
        }
        if let Some(value) = parts.next().or(args.get(index + 1).map(Vec::as_slice)) {
            path = Some(PathBuf::from(std::ffi::OsStr::from_bytes(value)));
        }
    }
    path
}

/// The root directory that a flag or the `daemon.json` gives a daemon, or else the default. `proc_root` is the root of
/// the file system that the daemon sees.
fn data_root(args: &[Vec<u8>], proc_root: &Path) -> PathBuf {
    told(args, &ROOT_FLAGS)
        .or_else(|| data_root_of_daemon(proc_root, told(args, &[b"--config-file"]).as_deref()))
        .unwrap_or_else(|| PathBuf::from("/var/lib/docker"))
}

/// Whether a process has a file of this root open. The settings of a daemon may have changed since it started.
fn has_open(process: &Path, root: &Path) -> bool {
    let files = fs::read_dir(process.join("fd")).into_iter().flatten();
    files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|path| path.starts_with(root))
}

/// Daemons that use this root, whatever their pid file and mount namespace. The root directory from their settings is
/// looked up from *their* file system root and compared by its inode.
pub(super) fn on_root(processes: &[Process], root: &DataDir, host: &Host) -> Vec<Finding> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let own = identity(root.path());
    // With userns-remap, the daemon's settings name the directory above.
    let above = root
        .path()
        .parent()
        .and_then(identity)
        .filter(|_| root.owner().uid != 0);
    let daemons = processes.iter().filter(|process| is_daemon(&process.args));
    let users = daemons.filter(|process| {
        let dir = host.proc.join(process.pid.to_string());
        let told = data_root(&process.args, &dir.join("root"));
        let inside = told.strip_prefix("/").unwrap_or(&told);
        let seen = identity(&dir.join("root").join(inside));
        seen.is_some() && (seen == own || seen == above) || has_open(&dir, root.path())
    });
    users
        .map(|process| Finding::Daemon { pid: process.pid })
        .collect()
}

/// Containers that have a live process.
///
/// `State.Running` alone proves nothing: it stays `true` when Docker is killed, and after a reboot `State.Pid` is some
/// other process. So a process counts only if it can be traced to the container: by its control group, whose name holds
/// the container's id with every cgroup driver and version, or by a parent that is the container's shim.
pub(super) fn of_containers(
    processes: &[Process],
    containers: &BTreeMap<ContainerId, KnownContainer>,
    host: &Host,
) -> Vec<Finding> {
    let mut alive: BTreeMap<&ContainerId, u32> = BTreeMap::new();
    for process in processes {
        let dir = host.proc.join(process.pid.to_string());
        let groups = fs::read(dir.join("cgroup")).unwrap_or_default();
        for id in ids_in(&groups) {
            if let Some((id, _)) = containers.get_key_value(&id) {
                alive.entry(id).or_insert(process.pid);
            }
        }
    }
    for (id, known) in containers {
        if let Some(pid) = known.pid.filter(|pid| has_shim(host, *pid, id)) {
            alive.entry(id).or_insert(pid);
        }
    }
    let name = |id| {
        containers
            .get(id)
            .map_or(String::new(), |known| known.name.clone())
    };
    alive
        .into_iter()
        .map(|(id, pid)| Finding::Container {
            id: id.clone(),
            name: name(id),
            pid,
        })
        .collect()
}

/// Container ids in a text, each a run of exactly 64 hexadecimal digits.
fn ids_in(text: &[u8]) -> impl Iterator<Item = ContainerId> {
    let words = text.split(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    words.filter_map(|word| ContainerId::parse(word).ok())
}

fn has_shim(host: &Host, pid: u32, id: &ContainerId) -> bool {
    let status =
        fs::read_to_string(host.proc.join(pid.to_string()).join("status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    let parent = parent.and_then(|number| number.trim().parse().ok());
    let args = parent
        .and_then(|parent| command_line(&host.proc, parent))
        .unwrap_or_default();
    args.iter().any(|arg| ids_in(arg).any(|found| found == *id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<Vec<u8>> {
        line.split(' ').map(|arg| arg.as_bytes().to_vec()).collect()
    }

    #[test]
    fn daemons_are_told_from_clients_and_shims() {
        for (line, daemon) in [
            ("/usr/bin/dockerd -H fd://", true),
            ("dockerd-current", true),
            ("/usr/bin/docker daemon -s aufs", true),
            ("/usr/bin/docker -d", true),
            ("docker -g /data -d", true),
            ("docker --debug -s aufs --daemon=true", true),
            ("docker -D daemon", true),
            ("docker run -d busybox", false),
            ("docker -H unix:///x run -d busybox", false),
            ("docker ps", false),
            ("containerd", false),
            ("containerd-shim -namespace moby", false),
            ("vi dockerd", false),
        ] {
            assert_eq!(is_daemon(&args(line)), daemon, "{line}");
        }
        assert!(!is_daemon(&[]));
    }

    #[test]
    fn the_daemons_root_is_read_from_its_flags_then_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/docker")).unwrap();
        for (line, text, root) in [
            ("dockerd", r#"{"data-root": "/a"}"#, "/a"),
            ("dockerd", r#"{"graph": "/b"}"#, "/b"),
            ("dockerd --data-root /c", r#"{"data-root": "/a"}"#, "/c"),
            ("dockerd", "{}", "/var/lib/docker"),
            ("dockerd", "{ # no", "/var/lib/docker"),
            (
                "dockerd --config-file /x",
                r#"{"data-root": "/a"}"#,
                "/x-root",
            ),
        ] {
            fs::write(dir.path().join("etc/docker/daemon.json"), text).unwrap();
            fs::write(dir.path().join("x"), r#"{"data-root": "/x-root"}"#).unwrap();
            assert_eq!(
                data_root(&args(line), dir.path()),
                Path::new(root),
                "{line} {text}"
            );
        }
        for (line, root) in [
            ("dockerd", "/var/lib/docker"),
            ("dockerd --data-root /a", "/a"),
            ("dockerd --data-root=/a", "/a"),
            ("docker daemon -g /b", "/b"),
            ("docker -d --graph=/c", "/c"),
            ("dockerd -g", "/var/lib/docker"),
        ] {
            assert_eq!(
                data_root(&args(line), Path::new("/none")),
                Path::new(root),
                "{line}"
            );
        }
    }

    #[test]
    fn container_ids_are_found_in_control_groups_of_every_kind() {
        let id = "0a".repeat(32);
        for group in [
            format!("4:memory:/docker/{id}\n"),
            format!("0::/system.slice/docker-{id}.scope\n"),
            format!("2:cpu:/my/parent/{id}/sub\n"),
        ] {
            let found: Vec<_> = ids_in(group.as_bytes()).map(|id| id.to_string()).collect();
            assert_eq!(found, std::slice::from_ref(&id), "{group}");
        }
        assert_eq!(ids_in(format!("/docker/{id}0").as_bytes()).count(), 0);
    }
}
