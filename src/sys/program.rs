//! Runs other programs. No other module starts one.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{AccessFlags, access};

/// The directories of administrators' programs; the PATH of a rescue shell may lack them.
const SYSTEM_DIRECTORIES: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// How often a program and the stop request are checked.
const INTERVAL: Duration = Duration::from_millis(20);

/// How long to wait for a killed program. One that waits for a dead device cannot be killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The number of bytes that are kept of each output, the last ones.
const KEPT_BYTES: usize = 4096;

/// How a program ended by itself.
#[derive(Debug)]
pub(crate) struct ProgramEnd {
    pub(crate) status: ExitStatus,
    /// The end of what it printed, and of what it said on stderr.
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Why there is nothing to be said of a program's end.
#[derive(Debug)]
pub(crate) enum RunError {
    /// It cannot be started.
    Start(io::Error),
    /// It was lost sight of, and killed.
    Wait(io::Error),
    /// It was stopped, and killed.
    Stopped,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) | Self::Wait(error) => error.fmt(f),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// Directories to look for programs in: those of PATH, and the system's.
pub(crate) fn program_directories() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // As root, never run a program from the current directory.
    let named = std::env::split_paths(&path).filter(|directory| directory.is_absolute());
    named.chain(SYSTEM_DIRECTORIES.map(PathBuf::from)).collect()
}

/// The first executable file of this name in these directories.
pub(crate) fn find_in(directories: &[PathBuf], program: &str) -> Option<PathBuf> {
    let mut files = directories.iter().map(|directory| directory.join(program));
    files.find(|file| file.is_file() && access(file, AccessFlags::X_OK).is_ok())
}

/// Runs a program with no input and without a locale, until it ends or `is_stopped`.
///
/// It gets a process group of its own: a Ctrl-C is meant for this program, and the other's death would look like a
/// failure.
pub(crate) fn run<S: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = S>,
    is_stopped: impl Fn() -> bool,
) -> Result<ProgramEnd, RunError> {
    let arguments: Vec<OsString> = arguments
        .into_iter()
        .map(|argument| argument.as_ref().to_owned())
        .collect();
    log::debug!("{} {arguments:?}", program.display());
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(RunError::Start)?;
    let ended = wait(&mut child, is_stopped);
    if ended.is_err() {
        kill(&mut child, program);
    }
    ended
}

fn wait(child: &mut Child, is_stopped: impl Fn() -> bool) -> Result<ProgramEnd, RunError> {
    let mut stdout = Pipe::new(child.stdout.take()).map_err(RunError::Wait)?;
    let mut stderr = Pipe::new(child.stderr.take()).map_err(RunError::Wait)?;
    loop {
        // Checked first: by then, the pipes contain what the program wrote before its end.
        let status = child.try_wait().map_err(RunError::Wait)?;
        for drained in [stdout.drain(), stderr.drain()] {
            drained.map_err(RunError::Wait)?;
        }
        if let Some(status) = status {
            return Ok(ProgramEnd {
                status,
                stdout: stdout.kept,
                stderr: stderr.kept,
            });
        }
        if is_stopped() {
            return Err(RunError::Stopped);
        }
        sleep(INTERVAL);
    }
}

/// One output of a program.
struct Pipe<R> {
    pipe: R,
    kept: Vec<u8>,
}

impl<R: Read + AsFd> Pipe<R> {
    fn new(pipe: Option<R>) -> io::Result<Self> {
        let pipe = pipe.expect("both outputs are pipes");
        // Neither a hanging program nor a child that it left with the same output may block us.
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self {
            pipe,
            kept: Vec::new(),
        })
    }

    /// Reads what is in the pipe, so that the program never waits for us, and keeps the last bytes.
    fn drain(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        // A pipe holds 64 KiB: further output is read after the next check of the program.
        for _ in 0..16 {
            match self.pipe.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => self.kept.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let surplus = self.kept.len().saturating_sub(KEPT_BYTES);
        self.kept.drain(..surplus);
        Ok(())
    }
}

fn kill(child: &mut Child, program: &Path) {
    // It may have ended in the meantime.
    let _ = child.kill();
    let begin = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if begin.elapsed() > PATIENCE {
            log::warn!("{}: still running after SIGKILL", program.display());
            return;
        }
        sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, is_stopped: impl Fn() -> bool) -> Result<ProgramEnd, RunError> {
        run(Path::new("/bin/sh"), ["-c", script], is_stopped)
    }

    #[test]
    fn a_flood_on_both_outputs_blocks_nobody_and_its_end_is_kept() {
        let flood = "i=0; while [ $i -lt 4000 ]; do echo 0123456789012345678901234567890123456789; \
                     echo 0123456789012345678901234567890123456789 >&2; i=$((i+1)); done; echo the end; echo the last >&2; exit 3";
        let ended = shell(flood, || false).unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert!(ended.stdout.ends_with(b"0123456789\nthe end\n"));
        assert!(ended.stderr.ends_with(b"0123456789\nthe last\n"));
        assert!(ended.stdout.len() <= KEPT_BYTES && ended.stderr.len() <= KEPT_BYTES);
    }

    #[test]
    fn a_program_that_leaves_a_child_behind_is_not_waited_for_longer() {
        let begin = Instant::now();
        shell("sleep 20 & exit 0", || false).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_program_is_killed_once_it_is_stopped() {
        let begin = Instant::now();
        let stopped = shell("sleep 20", || begin.elapsed() > Duration::from_millis(50));
        assert!(matches!(stopped, Err(RunError::Stopped)));
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_program_is_looked_for_in_order_and_must_be_executable() {
        let dir = tempfile::tempdir().unwrap();
        let none = dir.path().join("none");
        std::fs::write(dir.path().join("sh"), "not executable").unwrap();
        let directories = [none, dir.path().to_owned(), "/bin".into()];
        assert_eq!(find_in(&directories, "sh"), Some("/bin/sh".into()));
        assert_eq!(find_in(&directories, "no-such-program"), None);
        let missing = run(Path::new("/nonexistent/sh"), ["x"], || false);
        assert!(matches!(missing, Err(RunError::Start(_))));
    }
}
