//! How far a run came, told while it goes on, so that a later one need not begin again.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::plan::DeviceIndex;

/// Whoever notes how far a run came.
pub trait Checkpoint: Sync {
    /// These devices' content is durable from now on, whatever happens to the process or the power. Called by one thread
    /// at a time, with each device once; on return the note is durable too.
    ///
    /// # Errors
    ///
    /// When it cannot be noted; the run stops then.
    fn durable(&self, devices: &[DeviceIndex]) -> io::Result<()>;
}

/// Notes nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoCheckpoint;

impl Checkpoint for NoCheckpoint {
    fn durable(&self, _: &[DeviceIndex]) -> io::Result<()> {
        Ok(())
    }
}

/// Where a run begins, and whom it tells how far it came.
#[derive(Clone, Copy)]
pub struct Checkpoints<'a> {
    /// Of a resumed run: the devices that earlier runs of the same plan on the same target told to be durable. `None`: a
    /// first run, which must not find anything there.
    pub done: Option<&'a HashSet<DeviceIndex>>,
    /// Is told.
    pub to: &'a dyn Checkpoint,
    /// The least time from one telling to the next; zero: after each device.
    pub interval: Duration,
}

impl Checkpoints<'static> {
    /// For a first run that nobody will resume: nothing is synced before the end.
    pub const fn none() -> Self {
        Self {
            done: None,
            to: &NoCheckpoint,
            interval: Duration::MAX,
        }
    }
}

impl Checkpoints<'_> {
    /// Whether an earlier run made the device.
    pub fn is_done(&self, device: DeviceIndex) -> bool {
        self.done.is_some_and(|done| done.contains(&device))
    }
}

impl fmt::Debug for Checkpoints<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoints")
            .field("done", &self.done)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}
