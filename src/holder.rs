//! Finds the holder of a lock of [`lock`](crate::lock): the process, and the command of this tool that it runs.
//!
//! This does not take the lock: `/proc/locks` names the process that took it, by device and inode of the file (format:
//! Linux `fs/locks.c`, `lock_get_status`). A process id alone proves nothing, because it may have been reused: the
//! process must have the file open. All of this is for display only.

use std::fmt::{self, Write as _};
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::stat::{major, minor};
use nix::unistd::{SysconfVar, sysconf};

use crate::tree::escape;

/// The process file system.
const PROC: &str = "/proc";

/// The commands of this tool that can hold a lock.
const COMMANDS: [&str; 6] = [
    "convert", "resume", "rollback", "commit", "verify", "inspect",
];

/// A process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its id; `None` if it is not visible from here, as in another pid namespace.
    pub(crate) pid: Option<u32>,
    /// The command of this tool that it runs; `None` for another program, or one that is not visible.
    pub(crate) command: Option<&'static str>,
    /// The program's name, if it is not this tool.
    program: Option<String>,
    /// When it started, in seconds since 1970.
    pub(crate) since: Option<u64>,
    /// Whether it is stopped (SIGSTOP, Ctrl-Z).
    pub(crate) is_stopped: bool,
}

impl Holder {
    /// The running process that holds the lock on a file or directory, if it can be found.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let file = path.metadata().ok()?;
        let table = fs::read_to_string(Path::new(PROC).join("locks")).ok()?;
        table
            .lines()
            .filter_map(Lock::parse)
            .filter(|lock| lock.inode == file.ino())
            .find_map(|lock| lock.holder(&file))
    }

    /// The holder with the id of an existing process.
    fn new(pid: u32) -> Self {
        let dir = process(pid);
        let stat = fs::read(dir.join("stat")).unwrap_or_default();
        let stat = String::from_utf8_lossy(&stat).into_owned();
        let line = fs::read(dir.join("cmdline")).unwrap_or_default();
        let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let command = command_of(&arguments);
        let program = Stat::name(&stat).map(|name| escape(name.as_bytes()));
        Self {
            pid: Some(pid),
            program: program.filter(|_| command.is_none()),
            command,
            since: Stat::began(&stat),
            is_stopped: Stat::state(&stat) == Some('T'),
        }
    }

    fn unseen() -> Self {
        Self {
            pid: None,
            command: None,
            program: None,
            since: None,
            is_stopped: false,
        }
    }

    /// Its id and how long it has been running, in parentheses; empty if nothing is known.
    pub(crate) fn details(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.pid.map(|pid| format!("process {pid}")));
        parts.extend(self.since.map(|since| format!("for {}", elapsed(since))));
        if self.is_stopped {
            parts.push("stopped".to_owned());
        }
        match &parts[..] {
            [] => String::new(),
            parts => format!(" ({})", parts.join(", ")),
        }
    }

    /// What it runs, in words.
    pub(crate) fn what(&self) -> String {
        match (self.command, &self.program) {
            (Some(command), _) => format!("aufs2dm {command}"),
            (None, Some(program)) => program.clone(),
            (None, None) => "another aufs2dm".to_owned(),
        }
    }
}

/// The holder of a lock that is not available, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtWork(Option<Box<Holder>>);

impl AtWork {
    /// The holder of the lock on a file or directory.
    pub(crate) fn on(path: &Path) -> Self {
        Self(Holder::of(path).map(Box::new))
    }
}

impl fmt::Display for AtWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(holder) if holder.program.is_some() => {
                write!(f, "is locked by {}{}", holder.what(), holder.details())
            }
            Some(holder) if holder.command.is_some() => {
                let (what, details) = (holder.what(), holder.details());
                write!(f, "another aufs2dm is at work: {what}{details}")?;
                match holder.pid.filter(|_| holder.is_stopped) {
                    Some(pid) => write!(f, ", and `kill -CONT {pid}` lets it continue"),
                    None => Ok(()),
                }
            }
            Some(holder) => write!(f, "another aufs2dm is at work{}", holder.details()),
            None => f.write_str("another aufs2dm is at work"),
        }
    }
}

/// A line of `/proc/locks` that describes a lock on a whole open file.
#[derive(Debug, PartialEq, Eq)]
struct Lock {
    /// 0 if it is not visible from here.
    pid: u32,
    device: (u64, u64),
    inode: u64,
}

impl Lock {
    /// Parses `1: FLOCK  ADVISORY  WRITE 4711 fd:01:131075 0 EOF`. A lock that is being waited for has `->` after its
    /// number.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().skip(1);
        if words.next()? != "FLOCK" {
            return None;
        }
        let mut words = words.skip(2);
        let pid = words.next()?.parse().ok()?;
        let mut place = words.next()?.split(':');
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let device = (number(place.next()?)?, number(place.next()?)?);
        let inode = place.next()?.parse().ok()?;
        Some(Self { pid, device, inode })
    }

    /// The holding process, if this is the lock on this file. On some file systems (btrfs, overlayfs) the device
    /// differs from the one in `stat`; then only the open file shows it.
    fn holder(&self, file: &Metadata) -> Option<Holder> {
        let is_device = self.device == (major(file.dev()), minor(file.dev()));
        if self.pid == 0 {
            return is_device.then(Holder::unseen);
        }
        let is_its = has_open(self.pid, file).unwrap_or(is_device && process(self.pid).exists());
        is_its.then(|| Holder::new(self.pid))
    }
}

/// Whether a process has a file open; `None` if that is not visible.
fn has_open(pid: u32, file: &Metadata) -> Option<bool> {
    let open = fs::read_dir(process(pid).join("fd")).ok()?;
    let identity = |meta: Metadata| (meta.dev(), meta.ino());
    let wanted = (file.dev(), file.ino());
    Some(
        open.flatten()
            .filter_map(|entry| fs::metadata(entry.path()).ok())
            .any(|meta| identity(meta) == wanted),
    )
}

fn process(pid: u32) -> PathBuf {
    Path::new(PROC).join(pid.to_string())
}

/// The command in a command line of this tool.
fn command_of(arguments: &[&[u8]]) -> Option<&'static str> {
    let (program, rest) = arguments.split_first()?;
    let name = Path::new(std::ffi::OsStr::from_bytes(program)).file_name()?;
    if !name.as_bytes().starts_with(b"aufs2dm") {
        return None;
    }
    let is_one = |word: &&[u8], command: &str| *word == command.as_bytes();
    rest.iter()
        .find_map(|word| COMMANDS.into_iter().find(|command| is_one(word, command)))
}

/// `/proc/PID/stat`: the id, the name in parentheses, the state, and more numbers (Linux `fs/proc/array.c`,
/// `do_task_stat`).
struct Stat;

impl Stat {
    fn name(text: &str) -> Option<&str> {
        let (_, rest) = text.split_once('(')?;
        Some(rest.rsplit_once(')')?.0)
    }

    /// The words after the name, which may contain anything.
    fn words(text: &str) -> impl Iterator<Item = &str> {
        let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        rest.split_ascii_whitespace()
    }

    fn state(text: &str) -> Option<char> {
        Self::words(text).next()?.chars().next()
    }

    /// When the process started, in seconds since 1970. The 22nd field counts clock ticks since boot.
    fn began(text: &str) -> Option<u64> {
        let ticks: u64 = Self::words(text).nth(22 - 3)?.parse().ok()?;
        let per_second = sysconf(SysconfVar::CLK_TCK).ok()??;
        let per_second = u64::try_from(per_second).ok().filter(|ticks| *ticks > 0)?;
        let boot = fs::read_to_string(Path::new(PROC).join("stat")).ok()?;
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
        Some(boot.trim().parse::<u64>().ok()? + ticks / per_second)
    }
}

/// The time since then, in words.
fn elapsed(since: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0, |now| now.as_secs()).saturating_sub(since);
    words(seconds)
}

fn words(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match () {
        () if hours > 0 => {
            let mut text = format!("{hours} h");
            if minutes % 60 > 0 {
                // Writing to a String cannot fail.
                let _ = write!(text, " {} min", minutes % 60);
            }
            text
        }
        () if minutes > 0 => format!("{minutes} min"),
        () => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock;

    #[test]
    fn a_lock_is_told_with_its_process_and_one_let_go_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let open = fs::File::open(directory.path()).unwrap();
        assert_eq!(Holder::of(directory.path()), None);
        let held = lock::exclusive(open).unwrap();
        let holder = Holder::of(directory.path()).unwrap();
        assert_eq!(holder.pid, Some(std::process::id()));
        // The binary of this test is not the tool.
        assert!(holder.command.is_none() && holder.program.is_some());
        let since = holder.since.unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(since <= now.as_secs() + 2 && since + 86400 > now.as_secs());
        drop(held);
        assert_eq!(Holder::of(directory.path()), None);
    }

    #[test]
    fn a_number_that_is_another_processs_by_now_holds_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().metadata().unwrap();
        let lock = Lock {
            pid: 1,
            device: (major(file.dev()), minor(file.dev())),
            inode: file.ino(),
        };
        assert_eq!(lock.holder(&file), None);
    }

    #[test]
    fn lines_of_the_table_are_told_apart() {
        let line = "1: FLOCK  ADVISORY  WRITE 4711 fd:0a:131075 0 EOF";
        let lock = Lock {
            pid: 4711,
            device: (0xfd, 0x0a),
            inode: 131_075,
        };
        assert_eq!(Lock::parse(line), Some(lock));
        for line in [
            "",
            "1: POSIX  ADVISORY  WRITE 4711 fd:0a:131075 0 EOF",
            "1: -> FLOCK  ADVISORY  WRITE 4711 fd:0a:131075 0 EOF",
            "1: FLOCK  ADVISORY  WRITE x fd:0a:131075 0 EOF",
            "1: FLOCK  ADVISORY  WRITE 4711 131075 0 EOF",
        ] {
            assert_eq!(Lock::parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_command_line_of_the_tool_names_its_command() {
        for (line, command) in [
            ("/usr/bin/aufs2dm convert --root /r", Some("convert")),
            ("aufs2dm -v --log-format json resume", Some("resume")),
            ("flock /r aufs2dm convert", None),
            ("aufs2dm", None),
            ("", None),
        ] {
            let arguments: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            assert_eq!(command_of(&arguments), command, "{line}");
        }
    }

    #[test]
    fn a_processs_name_may_have_brackets() {
        let text = "4711 (a) b) T 1 2";
        assert_eq!(Stat::name(text), Some("a) b"));
        assert_eq!(Stat::state(text), Some('T'));
    }

    #[test]
    fn a_time_is_told_in_the_unit_that_suits_it() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (190, "3 min"),
            (3600, "1 h"),
            (7500, "2 h 5 min"),
        ] {
            assert_eq!(words(seconds), text);
        }
    }
}
