//! A phase that goes on, as text.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::progress::Phase;

/// A phase that goes on.
pub(super) struct RunningPhase {
    pub(super) phase: Phase,
    pub(super) total: u64,
    pub(super) done: u64,
    pub(super) began: Instant,
    pub(super) told: Instant,
}

impl RunningPhase {
    pub(super) fn new(phase: Phase, total: u64) -> Self {
        let now = Instant::now();
        Self {
            phase,
            total,
            done: 0,
            began: now,
            told: now,
        }
    }

    /// Counts what was done, and whether it is time to tell it again.
    pub(super) fn is_due(&mut self, amount: u64, interval: Duration) -> bool {
        self.done += amount;
        let due = self.told.elapsed() >= interval;
        if due {
            self.told = Instant::now();
        }
        due
    }

    pub(super) fn tell(&self) {
        // A closed stderr is no reason to stop a conversion.
        let _ = writeln!(std::io::stderr(), "{}", self.line());
    }

    pub(super) fn line(&self) -> String {
        let title = self.phase.title();
        if self.total == 0 {
            return title.to_owned();
        }
        let amount = |n: u64| self.phase.amount(n);
        let mut line = format!("{title}: {} of {}", amount(self.done), amount(self.total));
        let elapsed = self.began.elapsed();
        let per_second = u128::from(self.done) * 1000 / elapsed.as_millis().max(1);
        if self.done > 0 && per_second > 0 {
            let left = u128::from(self.total.saturating_sub(self.done)) / per_second;
            let rate = amount(u64::try_from(per_second).unwrap_or(u64::MAX));
            // Writing to a String cannot fail.
            let _ = write!(line, ", {rate}/s, {left} s left");
        }
        line
    }
}
