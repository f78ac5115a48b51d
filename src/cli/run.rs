//! From the arguments to the exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use log::LevelFilter;

use super::args::{Cli, Command};
use super::exit::{Exit, report};
use super::{commit, convert, inspect, rollback, status};

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    run(std::env::args_os()).into()
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    start_logger(cli.verbose);
    let done = match &cli.command {
        Command::Inspect(args) => inspect::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Resume(args) => convert::resume(args),
        Command::Rollback(args) => rollback::run(args),
        Command::Commit(args) => commit::run(args),
        Command::Status(args) => status::run(args),
    };
    done.map_or_else(
        |error| {
            error
                .downcast_ref::<clap::Error>()
                .map_or_else(|| report(&error), usage)
        },
        |()| Exit::Done,
    )
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

fn start_logger(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    env_logger::Builder::new()
        .filter_level(level)
        .format_timestamp(None)
        .format_target(false)
        .init();
}
