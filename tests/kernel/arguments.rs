//! The part of libtest's command line that is useful here.

use anyhow::{Result, bail};

use crate::checks::{self, Check, When};

/// What the command line asks for.
#[allow(clippy::struct_excessive_bools)] // each is one flag of the command line
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    /// Those that take too long for every run: they alone, or they too.
    ignored: bool,
    include_ignored: bool,
    /// Those that are timed, and no others.
    bench: bool,
    /// Only list the tests.
    pub(crate) list: bool,
    /// Show the guest's console while it runs.
    pub(crate) nocapture: bool,
    /// Print each test's time.
    pub(crate) report_time: bool,
    /// Run this shell command in a prepared guest instead of the tests.
    pub(crate) shell: Option<String>,
}

impl Arguments {
    /// Reads the process's arguments.
    pub(crate) fn read() -> Result<Self> {
        let mut parsed = Self::default();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--exact" => parsed.exact = true,
                "--bench" => parsed.bench = true,
                "--ignored" => parsed.ignored = true,
                "--include-ignored" => parsed.include_ignored = true,
                "--list" => parsed.list = true,
                "--nocapture" | "--no-capture" | "--show-output" => parsed.nocapture = true,
                "--report-time" => parsed.report_time = true,
                "--skip" => parsed.skips.extend(words.next()),
                "--shell" => parsed.shell = Some(words.next().unwrap_or_else(|| "bash".to_owned())),
                // The guest has one CPU and runs one test at a time whatever is asked.
                "--quiet" | "-q" | "--test-threads=1" => {}
                option if option.starts_with('-') => bail!("unknown option {option}"),
                filter => parsed.filters.push(filter.to_owned()),
            }
        }
        Ok(parsed)
    }

    /// The checks that were chosen, in the table's order.
    pub(crate) fn chosen(&self) -> Vec<&'static Check> {
        checks::all()
            .iter()
            .filter(|check| self.wants(&check.name))
            .filter(|check| match check.when {
                When::Timed => self.bench,
                When::Always => !self.bench && (self.include_ignored || !self.ignored),
                When::Ignored => !self.bench && (self.include_ignored || self.ignored),
            })
            .collect()
    }

    /// How many are left out because they take too long.
    pub(crate) fn nr_ignored(&self) -> usize {
        let left_out = |check: &&Check| {
            let is_out = match check.when {
                When::Always => false,
                When::Ignored => !self.ignored && !self.include_ignored,
                When::Timed => !self.bench,
            };
            is_out && self.wants(&check.name)
        };
        checks::all().iter().filter(left_out).count()
    }

    fn wants(&self, name: &str) -> bool {
        let matches = |pattern: &String| {
            if self.exact {
                name == pattern
            } else {
                name.contains(pattern.as_str())
            }
        };
        (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skips.iter().any(matches)
    }
}
