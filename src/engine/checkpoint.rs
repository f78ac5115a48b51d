//! How far a run came, told while it goes on, so that a later one need not begin again.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

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

    /// All that was durable is about to be removed, by a run that failed.
    fn undone(&self) {}
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

/// That it could not be noted how far the run came.
#[derive(Debug, thiserror::Error)]
#[error("record of the devices that are done: cannot be written")]
pub struct CheckpointError(#[source] io::Error);

/// The devices that are complete, but perhaps not on the disk, and were not told yet.
pub(super) struct Ledger<'a> {
    checkpoints: Checkpoints<'a>,
    state: Mutex<State>,
}

struct State {
    complete: Vec<DeviceIndex>,
    told: Instant,
    /// Someone is at it, or it failed.
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

    /// All of the device is written. What the caller wrote, and whom it waited for, is covered by every sync that begins
    /// from now on.
    pub(super) fn complete(&self, device: DeviceIndex) {
        self.lock().complete.push(device);
    }

    /// Syncs and tells, if it is time for it and nobody else is at it: others go on writing meanwhile.
    ///
    /// # Errors
    ///
    /// As [`tell`](Self::tell).
    pub(super) fn tell_when_due<E>(&self, sync: impl FnOnce() -> Result<(), E>) -> Result<(), E>
    where
        E: From<CheckpointError>,
    {
        self.tell_after(self.checkpoints.interval, sync)
    }

    /// Syncs and tells now.
    ///
    /// Only what was complete before the sync began is told after it. Once a sync has failed nothing is told any more: the
    /// kernel says only once that data was lost, and the next sync succeeds.
    ///
    /// # Errors
    ///
    /// That of `sync`, or that it cannot be noted.
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
            // Nobody waits for the one who is at it.
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
