//! From the arguments to the exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use super::args::{Cli, Command};
use super::exit::{Exit, report};
use super::notify::Notifier;
use super::{commit, convert, inspect, log_format, rollback, status, verify};
use crate::shell::remember_call;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    run(std::env::args_os()).into()
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments: Vec<_> = arguments.into_iter().collect();
    remember_call(arguments.iter().skip(1).cloned().collect());
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    log_format::start(cli.log_format, cli.verbose);
    let done = match &cli.command {
        Command::Inspect(args) => inspect::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Resume(args) => convert::resume(args),
        Command::Rollback(args) => rollback::run(args),
        Command::Commit(args) => commit::run(args),
        Command::Status(args) => status::run(args),
    };
    let exit = done.map_or_else(
        |error| {
            error
                .downcast_ref::<clap::Error>()
                .map_or_else(|| report(&error), usage)
        },
        |()| Exit::Done,
    );
    let manager = Notifier::from_environment();
    if exit == Exit::Done {
        manager.done("done");
    } else {
        manager.stopping(&format!("ended with exit code {}", exit as u8));
    }
    exit
}

fn usage(error: &clap::Error) -> Exit {
    // Help and version go to stdout and are no error. What cannot be printed is told by the exit code alone.
    let _ = error.print();
    if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Done
    }
}
