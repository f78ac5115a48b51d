//! The processes that Docker's pid files name, for display. [`pid_file`](super::pid_file) decides what keeps Docker
//! out.

use std::fs;
use std::path::PathBuf;

use serde::Serialize;

use super::candidates::candidates;
use super::finding::Host;
use super::processes::{is_live_daemon, read_pid};
use crate::holder::Holder;
use crate::shell::word;
use crate::tree::shown;

/// An existing pid file of Docker's. The field names are part of the `--json` interface of `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PidFileEntry {
    /// The file.
    #[serde(with = "crate::path_form")]
    pub path: PathBuf,
    /// The process that it names, if it names one.
    pub pid: Option<u32>,
    /// What that process is.
    pub whom: PidFileOwner,
}

/// The kind of process that a pid file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PidFileOwner {
    /// A live Docker daemon.
    Docker,
    /// A run of this tool that holds the file.
    Aufs2dm,
    /// Another live process, which has reused the process id of one that has ended.
    Other,
    /// No live process.
    Nobody,
}

/// The existing pid files that a daemon of this host could use.
pub fn named(host: &Host) -> Vec<PidFileEntry> {
    let is_file = |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.is_file());
    candidates(host)
        .into_iter()
        .filter(is_file)
        .map(|path| PidFileEntry::by(path, host))
        .collect()
}

impl PidFileEntry {
    fn by(path: PathBuf, host: &Host) -> Self {
        let pid = read_pid(&path);
        let lives = |pid: u32| host.proc.join(pid.to_string()).exists();
        let whom = match pid {
            Some(pid) if is_live_daemon(&host.proc, pid) => PidFileOwner::Docker,
            Some(_) if Holder::of(&path).is_some_and(|holder| holder.pid == pid) => {
                PidFileOwner::Aufs2dm
            }
            Some(pid) if lives(pid) => PidFileOwner::Other,
            _ => PidFileOwner::Nobody,
        };
        Self { path, pid, whom }
    }

    /// The meaning in words.
    pub fn meaning(&self) -> String {
        let path = shown(&self.path);
        let process = self
            .pid
            .map_or_else(|| "no process".to_owned(), |pid| format!("process {pid}"));
        match self.whom {
            PidFileOwner::Docker => format!(
                "Docker is running: {process}, according to {path}; all commands except `status`, `inspect` and a dry \
                 run need it stopped"
            ),
            PidFileOwner::Aufs2dm => format!(
                "{path}: is held by another aufs2dm, {process}; only one can work on a host at a time"
            ),
            PidFileOwner::Other => format!(
                "{path}: is stale, because {process} is not Docker; if Docker does not start because of it: `rm {}`",
                word(&self.path)
            ),
            PidFileOwner::Nobody => {
                let why = match self.pid {
                    Some(_) => format!("{process} has ended"),
                    None => format!("it names {process}"),
                };
                format!(
                    "{path}: is stale, because {why}; the next Docker or aufs2dm that uses it replaces it"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_the_process_that_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host {
            proc: dir.path().join("proc"),
            pid_file: dir.path().join("d.pid"),
            root: dir.path().to_owned(),
            ..Host::default()
        };
        assert_eq!(named(&host), []);
        for (pid, line) in [("11", "/usr/bin/dockerd\0-H\0fd://\0"), ("12", "vi\0")] {
            fs::create_dir_all(host.proc.join(pid)).unwrap();
            fs::write(host.proc.join(pid).join("cmdline"), line).unwrap();
        }
        for (text, pid, whom) in [
            ("11", Some(11), PidFileOwner::Docker),
            ("12\n", Some(12), PidFileOwner::Other),
            ("13", Some(13), PidFileOwner::Nobody),
            ("", None, PidFileOwner::Nobody),
        ] {
            fs::write(&host.pid_file, text).unwrap();
            let path = host.pid_file.clone();
            assert_eq!(named(&host), [PidFileEntry { path, pid, whom }], "{text}");
        }
    }
}
