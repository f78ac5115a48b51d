//! A run that works on a root now.

use std::path::Path;

use serde::Serialize;

use crate::commit::PhaseProgress;
use crate::holder::Holder;
use crate::progress::Phase;
use crate::staging::STAGE_NAME;

/// A run that holds a root. The field names are part of the `--json` interface.
#[derive(Clone, Debug, Serialize)]
pub struct ActiveRun {
    /// The process; left out where it cannot be seen, as in another pid namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The command that it runs; left out where that is none of this tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<&'static str>,
    /// When it began, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Whether it is stopped (SIGSTOP, Ctrl-Z).
    pub stopped: bool,
    /// What it does: `data`, `metadata`, `verify`, `kernel`, `recheck`, `switch`; left out where it does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<&'static str>,
    /// How much of the phase is done: bytes of `data`, else layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    /// How much the phase is; 0 when it is not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Layers that are written and durable.
    pub layers_done: usize,
    /// All layers, as far as that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers_all: Option<u32>,
    #[serde(skip)]
    holder: Holder,
    #[serde(skip)]
    told: Option<PhaseProgress>,
}

impl ActiveRun {
    /// The run that works on a root, if there is one. Takes no lock.
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

    /// With what the journal tells.
    pub(super) fn of_layers(self, done: usize, all: Option<u32>) -> Self {
        Self {
            layers_done: done,
            layers_all: all,
            ..self
        }
    }

    /// Whether two looks found the same run, or none.
    pub(super) fn is_same(one: Option<&Self>, other: Option<&Self>) -> bool {
        let key = |running: Option<&Self>| running.map(|running| (running.pid, running.since));
        key(one) == key(other)
    }

    /// What there is to say of the root.
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

    /// Of interest as long as layers are written.
    fn layers(&self) -> Option<String> {
        let writes = matches!(self.told?.phase, Phase::Data | Phase::Metadata);
        let all = self.layers_all.filter(|_| writes)?;
        Some(format!("{} of {all} layers are durable", self.layers_done))
    }

    /// What may be done with the run: one that is stopped goes on, and some end in order when told to.
    pub fn advice(&self) -> Option<String> {
        let pid = self.pid?;
        if self.stopped {
            return Some(format!(
                "it is stopped, and holds the root: `kill -CONT {pid}` lets it go on"
            ));
        }
        matches!(self.command, Some("convert" | "resume" | "verify"))
            .then(|| format!("`kill {pid}` ends it in order, as Ctrl-C does"))
    }
}
