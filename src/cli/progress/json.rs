//! Progress for programs: an object a line, with `phase`, `done` and `total` (0: not counted).

use std::io::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use log::Level;
use serde_json::{Map, Value, json};

use super::running::RunningPhase;
use crate::cli::log_format::line;
use crate::progress::{Phase, Progress};

/// How often a line is written while a phase goes on.
const INTERVAL: Duration = Duration::from_secs(1);

/// Writes a line at the beginning and the end of each phase, and each second.
#[derive(Default)]
pub(super) struct Json(Mutex<Option<RunningPhase>>);

impl Progress for Json {
    fn start(&self, phase: Phase, total: u64) {
        let running = RunningPhase::new(phase, total);
        tell(&running);
        *self.lock() = Some(running);
    }

    fn inc(&self, amount: u64) {
        if let Some(running) = &mut *self.lock()
            && running.is_due(amount, INTERVAL)
        {
            tell(running);
        }
    }

    fn finish(&self) {
        if let Some(mut running) = self.lock().take() {
            running.done = running.total;
            tell(&running);
        }
    }
}

impl Json {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<RunningPhase>> {
        self.0
            .lock()
            .expect("no thread panics while it holds the lock")
    }
}

fn tell(running: &RunningPhase) {
    let more: Map<String, Value> = [
        ("phase", json!(running.phase.name())),
        ("done", json!(running.done)),
        ("total", json!(running.total)),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    // A closed stderr is no reason to stop a conversion.
    let _ = std::io::stderr().write_all(line(Level::Info, running.phase.title(), &more).as_bytes());
}
