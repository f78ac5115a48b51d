//! Checkpoints of a run: they record its progress so that a later run need not start over.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::plan::DeviceIndex;

/// Records the progress of a run.
pub trait Checkpoint: Sync {
    /// Records that these devices' content is durable from now on, whatever happens to the process or the power. Called
    /// by one thread at a time, once for each device; on return the record is durable too.
    ///
    /// # Errors
    ///
    /// The record cannot be written; the run then stops.
    fn durable(&self, devices: &[DeviceIndex]) -> io::Result<()>;

    /// Records that a run failed and that everything that was durable is about to be removed.
    fn undone(&self) {}
}

/// Records nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoCheckpoint;

impl Checkpoint for NoCheckpoint {
    fn durable(&self, _: &[DeviceIndex]) -> io::Result<()> {
        Ok(())
    }
}

/// Where a run starts, and where it records its progress.
#[derive(Clone, Copy)]
pub struct Checkpoints<'a> {
    /// For a resumed run: the devices that earlier runs of the same plan on the same target recorded as durable.
    /// `None`: a first run, which must not find anything there.
    pub done: Option<&'a HashSet<DeviceIndex>>,
    /// Records the progress.
    pub to: &'a dyn Checkpoint,
    /// The minimum time between two checkpoints; zero: after each device.
    pub interval: Duration,
}

impl Checkpoints<'static> {
    /// For a first run that is never resumed: nothing is synced before the end.
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

/// The progress of the run could not be recorded.
#[derive(Debug, thiserror::Error)]
#[error("record of the finished devices: cannot be written")]
pub struct CheckpointError(#[source] io::Error);

/// The devices that are complete but were not recorded yet; they may not be on the disk.
pub(super) struct Ledger<'a> {
    checkpoints: Checkpoints<'a>,
    state: Mutex<State>,
}

struct State {
    complete: Vec<DeviceIndex>,
    told: Instant,
    /// Another thread is writing a checkpoint, or one failed.
    is_busy: bool,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(checkpoints: Checkpoints<'a>) -> Self {
        Self {
            checkpoints,
            state: Mutex::new(State {
                complete: Vec::new(),
                told: Instant::now(),
                is_busy: false,
            }),
        }
    }

    /// Marks the device as completely written. Every sync that begins from now on covers what the caller wrote, and
    /// what was written by those that it waited for.
    pub(super) fn complete(&self, device: DeviceIndex) {
        self.lock().complete.push(device);
    }

    /// Syncs and records, if a checkpoint is due and no other thread is writing one. Other threads continue to write
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// Same as [`tell`](Self::tell).
    pub(super) fn tell_when_due<E>(&self, sync: impl FnOnce() -> Result<(), E>) -> Result<(), E>
    where
        E: From<CheckpointError>,
    {
        self.tell_after(self.checkpoints.interval, sync)
    }

    /// Syncs and records now.
    ///
    /// Records only what was complete before the sync began. Once a sync has failed, nothing is recorded any more: the
    /// kernel reports only once that data was lost, and the next sync succeeds.
    ///
    /// # Errors
    ///
    /// The error of `sync`, or the record cannot be written.
    pub(super) fn tell<E>(&self, sync: impl FnOnce() -> Result<(), E>) -> Result<(), E>
    where
        E: From<CheckpointError>,
    {
        self.tell_after(Duration::ZERO, sync)
    }

    fn tell_after<E>(
        &self,
        interval: Duration,
        sync: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E>
    where
        E: From<CheckpointError>,
    {
        let devices = {
            let mut state = self.lock();
            if state.is_busy || state.complete.is_empty() || state.told.elapsed() < interval {
                return Ok(());
            }
            state.is_busy = true;
            std::mem::take(&mut state.complete)
        };
        sync()?;
        self.checkpoints
            .to
            .durable(&devices)
            .map_err(CheckpointError)?;
        let mut state = self.lock();
        state.told = Instant::now();
        state.is_busy = false;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no thread panics while it holds the lock")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[derive(Default)]
    struct Notes(Mutex<Vec<Vec<usize>>>);

    impl Checkpoint for Notes {
        fn durable(&self, devices: &[DeviceIndex]) -> io::Result<()> {
            let devices: Vec<_> = devices.iter().map(|device| device.0).collect();
            if devices == [99] {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.lock().unwrap().push(devices);
            Ok(())
        }
    }

    fn ledger(notes: &Notes, interval: Duration) -> Ledger<'_> {
        Ledger::new(Checkpoints {
            done: None,
            to: notes,
            interval,
        })
    }

    #[derive(Debug)]
    struct Failed;

    impl From<CheckpointError> for Failed {
        fn from(_: CheckpointError) -> Self {
            Self
        }
    }

    #[test]
    fn only_what_was_complete_before_the_sync_is_told() {
        let notes = Notes::default();
        let ledger = ledger(&notes, Duration::ZERO);
        ledger.complete(DeviceIndex(1));
        let during = || {
            ledger.complete(DeviceIndex(2));
            // This does not wait for the thread that is writing a checkpoint.
            ledger.tell(|| panic!("two syncs at a time"))
        };
        ledger.tell_when_due::<Failed>(during).unwrap();
        assert_eq!(*notes.0.lock().unwrap(), [[1]]);
        ledger.tell::<Failed>(|| Ok(())).unwrap();
        assert_eq!(*notes.0.lock().unwrap(), [[1], [2]]);
        ledger
            .tell::<Failed>(|| panic!("nothing is complete"))
            .unwrap();
    }

    #[test]
    fn nothing_is_synced_before_the_interval_is_over() {
        let notes = Notes::default();
        let ledger = ledger(&notes, Duration::from_secs(3600));
        ledger.complete(DeviceIndex(1));
        let syncs = Cell::new(0);
        let sync = || -> Result<(), Failed> {
            syncs.set(syncs.get() + 1);
            Ok(())
        };
        ledger.tell_when_due(sync).unwrap();
        assert_eq!(syncs.get(), 0);
        ledger.tell(sync).unwrap();
        assert_eq!(syncs.get(), 1);
    }

    #[test]
    fn after_a_failure_nothing_is_told_any_more() {
        for note in [1, 99] {
            let notes = Notes::default();
            let ledger = ledger(&notes, Duration::ZERO);
            ledger.complete(DeviceIndex(note));
            let sync = || if note == 1 { Err(Failed) } else { Ok(()) };
            ledger.tell_when_due(sync).unwrap_err();
            ledger.complete(DeviceIndex(2));
            ledger
                .tell::<Failed>(|| panic!("it would succeed"))
                .unwrap();
            assert!(notes.0.lock().unwrap().is_empty());
        }
    }
}
