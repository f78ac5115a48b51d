//! The same checks right here: for a machine that has root, dm-thin and loop devices.

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

use crate::{
    arguments::Arguments,
    checks,
    job::Event,
    lab::{self, Lab},
    report::Report,
    runner,
};

/// Runs the chosen tests on this machine's kernel.
pub(crate) fn main() -> Result<ExitCode> {
    let arguments = Arguments::read()?;
    if !geteuid().is_root() {
        bail!("KERNEL_TESTS=native needs root");
    }
    devicemapper::DM::new()
        .context("KERNEL_TESTS=native needs device-mapper: modprobe dm-thin-pool loop")?;
    let chosen = arguments.chosen();
    let base = env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let work = tempfile::Builder::new().prefix("a2dm-").tempdir_in(base)?;
    let lab = Lab::new(
        &lab::locate()?,
        &env::var("PATH").unwrap_or_default(),
        work.path(),
    );
    let names: Vec<_> = chosen.iter().map(|check| check.name.clone()).collect();
    let mut report = Report::begin(
        (chosen.len(), checks::all().len()),
        arguments.nr_ignored(),
        arguments.report_time,
    );
    runner::run_checks(&lab, &names, &mut |event| {
        if let Event::Finished(outcome) = event {
            report.add(outcome.clone());
        }
    });
    Ok(report.close())
}
