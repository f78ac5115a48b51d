//! The state that all parts of a verification share.

use std::sync::atomic::{AtomicU64, Ordering};

use super::halt::Halt;
use crate::progress::{Cancel, Progress};

/// The cancellation flag, the progress and the number of bytes read.
pub(crate) struct ReadJob<'a> {
    cancel: &'a Cancel,
    progress: &'a dyn Progress,
    bytes_read: AtomicU64,
}

impl<'a> ReadJob<'a> {
    pub(crate) fn new(cancel: &'a Cancel, progress: &'a dyn Progress) -> Self {
        Self {
            cancel,
            progress,
            bytes_read: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_set()
    }

    /// Fails if cancelled. Called before anything that takes time.
    pub(crate) fn go_on(&self) -> Result<(), Halt> {
        if self.is_cancelled() {
            return Err(Halt::Interrupted);
        }
        Ok(())
    }

    /// Counts bytes that were read.
    pub(crate) fn read(&self, bytes: u64) {
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The number of all bytes read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Reports that a layer is done.
    pub(crate) fn layer_done(&self) {
        self.progress.inc(1);
    }
}
