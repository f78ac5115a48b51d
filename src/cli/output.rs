//! Results on stdout.

use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;

use super::printable::printable;

/// Marks an error as one of stdout, so that a closed pipe is told from one of the run.
#[derive(Debug)]
pub(super) struct StdoutError;

impl std::fmt::Display for StdoutError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stdout: cannot write")
    }
}

/// Prints text.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    print_raw(&printable(text))
}

fn print_raw(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .context(StdoutError)
}

/// Prints a value as JSON over several lines.
pub(super) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text =
        serde_json::to_string_pretty(value).context("cannot write the result as JSON")?;
    text.push('\n');
    print_raw(&text)
}
