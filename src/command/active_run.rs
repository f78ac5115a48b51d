//! The run that is working on a root now.

use std::path::Path;

use serde::Serialize;

use crate::commit::PhaseProgress;
use crate::holder::Holder;
use crate::progress::Phase;
use crate::staging::STAGE_NAME;

/// A run that holds a root. The field names are part of the `--json` interface.
#[derive(Clone, Debug, Serialize)]
pub struct ActiveRun {
    /// The process; absent if it is not visible, for example in another pid namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The command it runs; absent if it is not one of this tool's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<&'static str>,
    /// When it started, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Whether it is stopped (SIGSTOP, Ctrl-Z).
    pub stopped: bool,
    /// The phase it is in: `data`, `metadata`, `verify`, `kernel`, `recheck`, `switch`; absent if it does not report
    /// one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<&'static str>,
    /// How much of the phase is done: bytes for `data`, otherwise layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    /// The size of the phase; 0 if it is not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// The number of layers that are written and durable.
    pub layers_done: usize,
    /// The total number of layers, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers_all: Option<u32>,
    #[serde(skip)]
    holder: Holder,
    #[serde(skip)]
    told: Option<PhaseProgress>,
}

impl ActiveRun {
    /// The run that is working on a root, if there is one. Takes no lock.
    pub(super) fn on(root: &Path) -> Option<Self> {
        let holder = Holder::of(root)?;
        let writes = matches!(holder.command, Some("convert" | "resume"));
        let told = holder
            .pid
            .filter(|_| writes)
            .and_then(|pid| PhaseProgress::by(pid, &root.join(STAGE_NAME)));
        Some(Self {
            pid: holder.pid,
            command: holder.command,
            since: holder.since,
            stopped: holder.is_stopped,
            phase: told.map(|told| told.phase.name()),
            done: told.map(|told| told.done),
            total: told.map(|told| told.total),
            layers_done: 0,
            layers_all: None,
            holder,
            told,
        })
    }

    /// Adds the layer counts from the journal.
    pub(super) fn of_layers(self, done: usize, all: Option<u32>) -> Self {
        Self {
            layers_done: done,
            layers_all: all,
            ..self
        }
    }

    /// Whether two looks found the same run, or both found none.
    pub(super) fn is_same(one: Option<&Self>, other: Option<&Self>) -> bool {
        let key = |running: Option<&Self>| running.map(|running| (running.pid, running.since));
        key(one) == key(other)
    }

    /// The root's state in words.
    pub(super) fn meaning(&self) -> String {
        let (what, details) = (self.holder.what(), self.holder.details());
        let mut text = format!("{what} is at work on it{details}");
        let parts: Vec<_> = [self.progress(), self.layers()]
            .into_iter()
            .flatten()
            .collect();
        if !parts.is_empty() {
            text.push_str(": ");
            text.push_str(&parts.join("; "));
        }
        text
    }

    fn progress(&self) -> Option<String> {
        let PhaseProgress { phase, done, total } = self.told?;
        Some(match total {
            0 => phase.title().to_owned(),
            _ => format!(
                "{}, {} of {}",
                phase.title(),
                phase.amount(done),
                phase.amount(total)
            ),
        })
    }

    /// The number of durable layers; only of interest while layers are being written.
    fn layers(&self) -> Option<String> {
        let writes = matches!(self.told?.phase, Phase::Data | Phase::Metadata);
        let all = self.layers_all.filter(|_| writes)?;
        Some(format!("{} of {all} layers are durable", self.layers_done))
    }

    /// What the operator can do with the run: continue it if it is stopped, or end it cleanly if its command supports
    /// that.
    pub fn advice(&self) -> Option<String> {
        let pid = self.pid?;
        if self.stopped {
            return Some(format!(
                "it is stopped, and keeps the root locked: `kill -CONT {pid}` lets it continue"
            ));
        }
        matches!(self.command, Some("convert" | "resume" | "verify"))
            .then(|| format!("`kill {pid}` ends it cleanly, as Ctrl-C does"))
    }
}
