//! Progress reports from long work, and a way to stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::units::Bytes;

/// A part of the run with a total of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading the branches' directories; counted in layers.
    Read,
    /// Computing the plan; not counted.
    Plan,
    /// Writing the data file; counted in bytes.
    Data,
    /// Writing the metadata file and making everything durable; not counted.
    Metadata,
    /// Verifying; counted in layers.
    Verify,
    /// The kernel mounts devices; counted in devices.
    Kernel,
    /// Reading the branches' directories again to detect changes; counted in layers.
    Recheck,
    /// Moving the result into place; not counted.
    Switch,
}

/// All phases, with their names, which are part of the interface, and their titles.
const PHASES: [(Phase, &str, &str); 8] = [
    (Phase::Read, "read", "reading layers"),
    (Phase::Plan, "plan", "planning"),
    (Phase::Data, "data", "writing data"),
    (Phase::Metadata, "metadata", "writing pool metadata"),
    (Phase::Verify, "verify", "verifying"),
    (Phase::Kernel, "kernel", "mounting devices"),
    (Phase::Recheck, "recheck", "checking for changes"),
    (Phase::Switch, "switch", "moving into place"),
];

impl Phase {
    /// Its name, which is part of the interface.
    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// Its title in words.
    pub fn title(self) -> &'static str {
        self.words().1
    }

    /// The phase with this name.
    pub fn of_name(name: &str) -> Option<Self> {
        let found = PHASES.iter().find(|(_, one, _)| *one == name);
        found.map(|(phase, ..)| *phase)
    }

    /// An amount of the phase, in its own unit.
    pub fn amount(self, n: u64) -> String {
        match self {
            Self::Data => Bytes(n).to_string(),
            _ => n.to_string(),
        }
    }

    fn words(self) -> (&'static str, &'static str) {
        let found = PHASES.iter().find(|(phase, ..)| *phase == self);
        found.map_or(("", ""), |(_, name, title)| (name, title))
    }
}

/// The receiver of progress reports; workers on several threads only call [`inc`](Self::inc).
pub trait Progress: Sync {
    /// A phase begins; `total` is 0 if it is not counted.
    fn start(&self, phase: Phase, total: u64);
    /// This much more is done.
    fn inc(&self, amount: u64);
    /// The phase is over.
    fn finish(&self);
}

/// Reports to nobody.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: Phase, _: u64) {}
    fn inc(&self, _: u64) {}
    fn finish(&self) {}
}

/// Whether the run was told to stop. Clones share the flag.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// The flag itself, for a signal handler.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Whether the run was told to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
