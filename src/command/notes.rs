//! Records in the journal what an engine made durable.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::commit::{Journal, Record};
use crate::engine::Checkpoint;
use crate::plan::DeviceIndex;

/// Writes the records to the journal, and counts the devices.
#[derive(Debug)]
pub(super) struct Notes<'a> {
    journal: &'a Journal,
    durable: AtomicUsize,
}

impl<'a> Notes<'a> {
    /// `durable` is the number of devices that earlier runs made durable.
    pub(super) fn new(journal: &'a Journal, durable: usize) -> Self {
        Self {
            journal,
            durable: AtomicUsize::new(durable),
        }
    }

    /// How many devices are durable.
    pub(super) fn durable(&self) -> usize {
        self.durable.load(Ordering::Relaxed)
    }
}

impl Checkpoint for Notes<'_> {
    fn durable(&self, devices: &[DeviceIndex]) -> io::Result<()> {
        let record = Record::Durable {
            devices: devices.iter().map(|device| device.0).collect(),
        };
        self.journal.append(&record).map_err(io::Error::other)?;
        self.durable.fetch_add(devices.len(), Ordering::Relaxed);
        Ok(())
    }

    fn undone(&self) {
        self.journal.note_undone();
        self.durable.store(0, Ordering::Relaxed);
    }
}
