//! Runs a program on a device, unless the run is stopped before.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::error::Error;
use crate::progress::Cancel;
use crate::sys::program::{self, RunError};
use crate::tree::escape;

/// The number of lines of stderr that are shown.
const SHOWN_LINES: usize = 4;

/// Runs `program arguments… device`.
pub(super) fn run(
    program: &Path,
    arguments: &[OsString],
    device: &Path,
    cancel: &Cancel,
) -> Result<(), Error> {
    let run_error = |op, source| Error::Run {
        program: program.to_owned(),
        op,
        source,
    };
    let arguments = arguments.iter().map(OsString::as_os_str);
    let all = arguments.chain([OsStr::new(device)]);
    let ended = program::run(program, all, || cancel.is_set()).map_err(|error| match error {
        RunError::Start(source) => run_error("start", source),
        RunError::Wait(source) => run_error("wait for", source),
        RunError::Stopped => Error::Interrupted,
    })?;
    if ended.status.success() {
        return Ok(());
    }
    Err(Error::Failed {
        device: device.to_owned(),
        program: program.to_owned(),
        status: ended.status,
        said: last_lines(&ended.stderr),
    })
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
        "no error output".to_owned()
    } else {
        shown.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_shown_on_one_with_controls_escaped() {
        assert_eq!(last_lines(b""), "no error output");
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
    fn the_end_of_stderr_is_shown() {
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
