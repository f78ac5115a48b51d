//! Processes that are a Docker daemon or belong to a container.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::id::ContainerId;
use super::super::root::Root;
use super::check::{Finding, Host, Known};

/// A process and its command line.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    args: Vec<Vec<u8>>,
}

/// All processes that can be seen, this one left out. One that ends meanwhile is no loss.
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

/// The number in a pid file's text.
pub(super) fn parse_pid(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// Whether a process of this number lives and is a Docker daemon. After a crash the number can be anyone's.
pub(super) fn is_live_daemon(proc: &Path, pid: u32) -> bool {
    command_line(proc, pid).is_some_and(|args| is_daemon(&args))
}

/// The daemon that the pid file names.
pub(super) fn in_pid_file(host: &Host) -> Vec<Finding> {
    let pid = fs::read(&host.pid_file).ok().as_deref().and_then(parse_pid);
    let live = pid.filter(|pid| is_live_daemon(&host.proc, *pid));
    live.map(|pid| Finding::PidFile {
        pid,
        pid_file: host.pid_file.clone(),
    })
    .into_iter()
    .collect()
}

/// `dockerd` since 1.12 (with a suffix in some distributions), `docker daemon` from 1.8, `docker -d` before.
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

/// Tells `docker -g /data -d` from `docker run -d`: a flag's value is passed over, the first other word is the command.
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

/// The root directory that a daemon was told to use, else the default.
fn data_root(args: &[Vec<u8>]) -> PathBuf {
    const FLAGS: [&[u8]; 3] = [b"--data-root", b"--graph", b"-g"];
    let mut root = PathBuf::from("/var/lib/docker");
    for (index, arg) in args.iter().enumerate() {
        let mut parts = arg.splitn(2, |byte| *byte == b'=');
        if !FLAGS.contains(&parts.next().unwrap_or_default()) {
            continue;
        }
        if let Some(value) = parts.next().or(args.get(index + 1).map(Vec::as_slice)) {
            root = PathBuf::from(std::ffi::OsStr::from_bytes(value));
        }
    }
    root
}

/// Daemons that use this root, whatever their pid file is called and whichever mount namespace they are in: the
/// directory they were told is looked up from *their* file system root and compared by its inode.
pub(super) fn on_root(processes: &[Process], root: &Root, host: &Host) -> Vec<Finding> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let own = identity(root.path());
    // With userns-remap the daemon is told the directory above.
    let above = root
        .path()
        .parent()
        .and_then(identity)
        .filter(|_| root.owner().uid != 0);
    let daemons = processes.iter().filter(|process| is_daemon(&process.args));
    let users = daemons.filter(|process| {
        let told = data_root(&process.args);
        let inside = told.strip_prefix("/").unwrap_or(&told);
        let seen = identity(
            &host
                .proc
                .join(process.pid.to_string())
                .join("root")
                .join(inside),
        );
        seen.is_some() && (seen == own || seen == above)
    });
    users
        .map(|process| Finding::Daemon { pid: process.pid })
        .collect()
}

/// Containers that have a live process.
///
/// `State.Running` alone proves nothing: it stays `true` when Docker is killed, and after a reboot `State.Pid` is some
/// other process. So a process counts only if it names the container: by its control group, which holds the container's
/// id with every cgroup driver and version, or by a parent that is the container's shim.
pub(super) fn of_containers(
    processes: &[Process],
    containers: &BTreeMap<ContainerId, Known>,
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
    fn the_daemons_root_is_read_from_its_flags() {
        for (line, root) in [
            ("dockerd", "/var/lib/docker"),
            ("dockerd --data-root /a", "/a"),
            ("dockerd --data-root=/a", "/a"),
            ("docker daemon -g /b", "/b"),
            ("docker -d --graph=/c", "/c"),
            ("dockerd -g", "/var/lib/docker"),
        ] {
            assert_eq!(data_root(&args(line)), Path::new(root), "{line}");
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
