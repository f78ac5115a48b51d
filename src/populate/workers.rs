//! The state that the threads share while they apply one layer.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use nix::fcntl::OFlag;
use rayon::Scope;

use super::apply::ApplyOptions;
use super::attributes::Process;
use super::error::{Error, Interruption};
use crate::source::{Cursor, Layer};

/// The state that the threads share while they apply one layer.
pub(super) struct Workers<'a> {
    pub(super) layer: &'a Layer,
    pub(super) run: ApplyOptions<'a>,
    pub(super) process: Process,
    /// Whether the target was found to keep nanoseconds.
    pub(super) keeps_nanoseconds: AtomicBool,
    rootfs: Arc<File>,
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl<'a> Workers<'a> {
    pub(super) fn new(layer: &'a Layer, rootfs: Arc<File>, run: &ApplyOptions<'a>) -> Self {
        Self {
            layer,
            run: *run,
            process: Process::new(),
            keeps_nanoseconds: AtomicBool::new(false),
            rootfs,
            failed: AtomicBool::new(false),
            error: Mutex::new(None),
        }
    }

    /// A cursor that starts in the target's root.
    pub(super) fn cursor(&self) -> Cursor<'a> {
        let rootfs = Arc::clone(&self.rootfs);
        Cursor::new(&self.layer.tree, rootfs, OFlag::O_RDONLY)
    }

    /// Runs one step: `spawn` gives the pool its tasks, and all of them have ended on return. The calling thread only
    /// waits: a thread of the pool would take other layers' tasks meanwhile.
    pub(super) fn step<'s>(&self, spawn: impl FnOnce(&Scope<'s>)) -> Result<(), Error> {
        self.run.pool.in_place_scope(spawn);
        let error = self.error.lock();
        error
            .expect("no thread panics while it holds the lock")
            .take()
            .map_or(Ok(()), Err)
    }

    /// Runs a task, unless another one failed. The first error is the error of the step.
    pub(super) fn attempt(&self, task: impl FnOnce() -> Result<(), Error>) {
        if let Err(error) = self.go_on().map_err(Error::from).and_then(|()| task()) {
            // Stored before the others are stopped: their errors are not the cause.
            self.error
                .lock()
                .expect("no thread panics while it holds the lock")
                .get_or_insert(error);
            self.failed.store(true, Ordering::Release);
        }
    }

    /// Fails if the work should stop. Called before every file.
    pub(super) fn go_on(&self) -> Result<(), Interruption> {
        if self.run.cancel.is_set() || self.failed.load(Ordering::Acquire) {
            return Err(Interruption);
        }
        Ok(())
    }
}
