//! libtest's report, line for line, so that people and CI read it as they read any other test target.

use std::{process::ExitCode, time::Instant};

use crate::job::Outcome;

/// Prints the report while outcomes come in.
#[derive(Debug)]
pub(crate) struct Report {
    begin: Instant,
    outcomes: Vec<Outcome>,
    nr_ignored: usize,
    nr_filtered: usize,
    times: bool,
}

impl Report {
    /// Prints the head for `nr_tests` tests of `nr_all`, where `nr_ignored` take too long and the rest is left out by the command
    /// line.
    pub(crate) fn begin(
        (nr_tests, nr_all): (usize, usize),
        nr_ignored: usize,
        times: bool,
    ) -> Self {
        println!(
            "\nrunning {nr_tests} test{}",
            if nr_tests == 1 { "" } else { "s" }
        );
        Self {
            begin: Instant::now(),
            outcomes: Vec::new(),
            nr_ignored,
            nr_filtered: nr_all - nr_tests - nr_ignored,
            times,
        }
    }

    /// Prints one test's line.
    pub(crate) fn add(&mut self, outcome: Outcome) {
        let verdict = if outcome.failure.is_some() {
            "FAILED"
        } else {
            "ok"
        };
        if self.times {
            println!(
                "test {} ... {verdict} <{:.3}s>",
                outcome.name, outcome.seconds
            );
        } else {
            println!("test {} ... {verdict}", outcome.name);
        }
        self.outcomes.push(outcome);
    }

    /// Prints the failures and the closing line.
    pub(crate) fn close(self) -> ExitCode {
        let failed: Vec<_> = self
            .outcomes
            .iter()
            .filter_map(|outcome| Some((&outcome.name, outcome.failure.as_ref()?)))
            .collect();
        if !failed.is_empty() {
            println!("\nfailures:");
            for (name, text) in &failed {
                println!("\n---- {name} stdout ----\n{}", text.trim_end());
            }
            println!("\nfailures:");
            for (name, _) in &failed {
                println!("    {name}");
            }
        }
        println!(
            "\ntest result: {}. {} passed; {} failed; {} ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
            if failed.is_empty() { "ok" } else { "FAILED" },
            self.outcomes.len() - failed.len(),
            failed.len(),
            self.nr_ignored,
            self.nr_filtered,
            self.begin.elapsed().as_secs_f64()
        );
        if failed.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(101)
        }
    }
}
