//! The `aufs2dm` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    aufs2dm::cli::main()
}
