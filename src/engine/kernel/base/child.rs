//! Runs one program to its end, unless the run is stopped before.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::error::Error;
use crate::progress::Cancel;
use crate::tree::escape;

/// How often the program and the stop request are checked.
const INTERVAL: Duration = Duration::from_millis(20);

/// How long to wait for a killed program. One that waits for a dead device cannot be killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The number of bytes of stderr that are kept.
const KEPT_BYTES: usize = 4096;

/// The number of its lines that are shown.
const SHOWN_LINES: usize = 4;

/// Runs `program arguments… device` with no input and without a locale.
pub(super) fn run(
    program: &Path,
    arguments: &[OsString],
    device: &Path,
    cancel: &Cancel,
) -> Result<(), Error> {
    log::debug!("{} {arguments:?} {}", program.display(), device.display());
    let run_error = |op| {
        move |source| Error::Run {
            program: program.to_owned(),
            op,
            source,
        }
    };
    let mut child = Command::new(program)
        .args(arguments)
        .arg(device)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A Ctrl-C is meant for this program: the child's death would look like a failure.
        .process_group(0)
        .spawn()
        .map_err(run_error("start"))?;
    let ended = wait(&mut child, cancel);
    if !matches!(ended, Ok(ChildEnd::Alone { .. })) {
        kill(&mut child, program);
    }
    match ended.map_err(run_error("wait for"))? {
        ChildEnd::Alone { status, .. } if status.success() => Ok(()),
        ChildEnd::Alone { status, stderr } => Err(Error::Failed {
            device: device.to_owned(),
            program: program.to_owned(),
            status,
            said: last_lines(&stderr),
        }),
        ChildEnd::Cancelled => Err(Error::Interrupted),
    }
}

enum ChildEnd {
    Alone { status: ExitStatus, stderr: Vec<u8> },
    Cancelled,
}

fn wait(child: &mut Child, cancel: &Cancel) -> io::Result<ChildEnd> {
    let mut pipe = child.stderr.take().expect("stderr is a pipe");
    // Neither a hanging program nor a child that it left with the same stderr may block us.
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut stderr = Vec::new();
    loop {
        // Checked first: by then, the pipe contains what the program wrote before its end.
        let status = child.try_wait()?;
        drain(&mut pipe, &mut stderr)?;
        if let Some(status) = status {
            return Ok(ChildEnd::Alone { status, stderr });
        }
        if cancel.is_set() {
            return Ok(ChildEnd::Cancelled);
        }
        sleep(INTERVAL);
    }
}

/// Reads what is in the pipe, so that the program never waits for us, and keeps the last bytes.
fn drain(pipe: &mut ChildStderr, kept: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    // A pipe holds 64 KiB: further output is read after the next check of `cancel`.
    for _ in 0..16 {
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => kept.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    kept.drain(..kept.len().saturating_sub(KEPT_BYTES));
    Ok(())
}

fn kill(child: &mut Child, program: &Path) {
    // It may have ended in the meantime.
    let _ = child.kill();
    let begin = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if begin.elapsed() > PATIENCE {
            log::warn!("{}: still there after SIGKILL", program.display());
            return;
        }
        sleep(INTERVAL);
    }
}

/// The last lines of a program's output, on one line.
fn last_lines(stderr: &[u8]) -> String {
    let lines: Vec<_> = stderr
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
        .map(escape)
        .collect();
    let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
    if shown.is_empty() {
        "without a word".to_owned()
    } else {
        shown.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_shown_on_one_with_controls_escaped() {
        assert_eq!(last_lines(b""), "without a word");
        assert_eq!(
            last_lines(b"1\n2\r\n\n 3 \n4\x1b[1m\n5\xff"),
            "2; 3; 4\\x1b[1m; 5\\xff"
        );
    }

    fn shell(script: &str, cancel: &Cancel) -> Result<(), Error> {
        let arguments = ["-c".into(), script.into()];
        run(
            Path::new("/bin/sh"),
            &arguments,
            Path::new("device"),
            cancel,
        )
    }

    #[test]
    fn a_flood_on_stderr_blocks_nobody_and_its_end_is_shown() {
        let flood = "i=0; while [ $i -lt 4000 ]; do echo 0123456789012345678901234567890123456789 >&2; \
                     i=$((i+1)); done; echo the end >&2; exit 3";
        let error = shell(flood, &Cancel::default()).unwrap_err().to_string();
        assert!(
            error.starts_with("device: /bin/sh: exit status: 3: 0123"),
            "{error}"
        );
        assert!(error.ends_with("; the end"), "{error}");
    }

    #[test]
    fn a_program_that_leaves_a_child_behind_is_not_waited_for_longer() {
        let begin = Instant::now();
        shell("sleep 20 & exit 0", &Cancel::default()).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(
            Path::new("/nonexistent/mkfs"),
            &[],
            Path::new("d"),
            &Cancel::default(),
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "/nonexistent/mkfs: cannot start"
        );
    }
}
