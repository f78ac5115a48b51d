//! Runs checks one by one, in the guest or natively, and sees to it that each leaves nothing behind.

use std::{
    any::Any,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result};

use crate::{
    checks::{self, Check},
    job::{Event, Outcome},
    lab::{Lab, last_lines},
    leftovers::Leftovers,
};

/// Lines of the kernel's log shown with a failure.
const KERNEL_LINES: usize = 12;

/// Runs the named checks and tells each event as it happens.
pub(crate) fn run_checks(lab: &Lab, names: &[String], tell: &mut dyn FnMut(&Event)) {
    for check in checks::all()
        .iter()
        .filter(|check| names.contains(&check.name))
    {
        tell(&Event::Started {
            name: check.name.clone(),
        });
        let begin = Instant::now();
        let failure = run_check(lab, check)
            .err()
            .map(|error| format!("{error:#}"));
        let seconds = begin.elapsed().as_secs_f64();
        tell(&Event::Finished(Outcome {
            name: check.name.clone(),
            failure,
            seconds,
        }));
    }
}

fn run_check(lab: &Lab, check: &Check) -> Result<()> {
    let before = Leftovers::now()?;
    let scratch = lab.work().join(&check.name);
    fs::create_dir_all(&scratch)?;
    let outcome = catch_unwind(AssertUnwindSafe(|| check.run(lab, &scratch)))
        .unwrap_or_else(|panic| Err(anyhow::anyhow!("panicked: {}", panic_text(panic.as_ref()))))
        .map_err(|error| with_kernel_log(&error));
    let clean = before.compare_and_clean(lab);
    let removed = fs::remove_dir_all(&scratch).with_context(|| scratch.display().to_string());
    match (outcome, clean) {
        (Err(error), Err(leftovers)) => Err(error.context(format!("also: {leftovers:#}"))),
        (outcome, clean) => outcome.and(clean).and(removed),
    }
}

fn panic_text(panic: &dyn Any) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

/// Adds the last kernel messages: what dm-thin and ext4 complain about is nowhere else.
fn with_kernel_log(error: &anyhow::Error) -> anyhow::Error {
    let log = Command::new("dmesg")
        .output()
        .map(|output| output.stdout)
        .unwrap_or_default();
    anyhow::anyhow!(
        "{error:#}\nkernel log:\n{}",
        last_lines(&String::from_utf8_lossy(&log), KERNEL_LINES)
    )
}

/// A directory of a check, made empty.
pub(crate) fn directory(parent: &Path, name: &str) -> Result<PathBuf> {
    let path = parent.join(name);
    fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}
