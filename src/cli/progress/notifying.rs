//! Progress for the service manager, beside another form.

use std::sync::Mutex;
use std::time::Duration;

use super::running::RunningPhase;
use crate::cli::notify::Notifier;
use crate::progress::{Phase, Progress};

/// How often the manager is told while a phase goes on.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long the manager is to wait for the next word. A phase that is not counted says none until it ends.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Hands everything on, and tells the manager.
pub(super) struct ServiceProgress {
    shown: Box<dyn Progress>,
    notifier: Notifier,
    running: Mutex<Option<RunningPhase>>,
}

impl ServiceProgress {
    pub(super) fn new(shown: Box<dyn Progress>, notifier: Notifier) -> Self {
        Self {
            shown,
            notifier,
            running: Mutex::new(None),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<RunningPhase>> {
        self.running
            .lock()
            .expect("no thread panics while it holds the lock")
    }
}

impl Progress for ServiceProgress {
    fn start(&self, phase: Phase, total: u64) {
        let running = RunningPhase::new(phase, total);
        self.notifier.status(&running.line(), PATIENCE);
        *self.lock() = Some(running);
        self.shown.start(phase, total);
    }

    fn inc(&self, amount: u64) {
        if let Some(running) = &mut *self.lock()
            && running.is_due(amount, INTERVAL)
        {
            self.notifier.status(&running.line(), PATIENCE);
        }
        self.shown.inc(amount);
    }

    fn finish(&self) {
        self.lock().take();
        self.shown.finish();
    }
}
