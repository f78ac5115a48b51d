//! An interrupted conversion that is continued.

use std::collections::HashSet;
use std::path::Path;

use super::error::Error;
use super::recorded_options::{PlanRecord, RecordedOptions};
use super::request::{Request, ResumeRequest};
use crate::commit::{Leftover, State};
use crate::plan::DeviceIndex;

/// What its journal says about it.
#[derive(Debug)]
pub(super) struct EarlierRun {
    pub(super) order: RecordedOptions,
    /// The devices that need not be written again.
    pub(super) done: HashSet<DeviceIndex>,
    /// Whether layers that were written before the interruption have changed since without a change of their
    /// modification times.
    pub(super) is_written_since: bool,
}

impl EarlierRun {
    /// Takes over the conversion that an interrupted run left.
    pub(super) fn of(leftover: &Leftover, root: &Path) -> Result<Self, Error> {
        let Leftover::Conversion(_, story) = leftover else {
            return Err(Error::NothingToResume {
                path: root.to_owned(),
            });
        };
        if story.state != State::Writing {
            return Err(Error::Commit(crate::commit::Error::Unfinished {
                path: root.to_owned(),
                state: story.state,
            }));
        }
        let malformed = || Error::Order {
            path: root.to_owned(),
        };
        let order: RecordedOptions =
            serde_json::from_value(story.begun.order.clone()).map_err(|_| malformed())?;
        Ok(Self {
            done: story.durable.iter().copied().map(DeviceIndex).collect(),
            order,
            is_written_since: false,
        })
    }

    /// Checks that what was written is part of the new plan.
    pub(super) fn expect_same(&mut self, planned: &PlanRecord, root: &Path) -> Result<(), Error> {
        let changed = |what| Error::SourceChanged {
            path: root.to_owned(),
            what,
        };
        match &self.order.planned {
            Some(before) if (&before.source, &before.plan) == (&planned.source, &planned.plan) => {
                let mut written = self.done.iter().map(|device| device.0);
                let times =
                    |of: &PlanRecord, device| of.layers.get(&device).map(|mark| mark.times.clone());
                self.is_written_since = before.is_same_place(root)
                    && written.any(|device| times(before, device) != times(planned, device));
                Ok(())
            }
            Some(before) if before.source == planned.source => Err(changed("the plan")),
            _ => Err(changed("the aufs side")),
        }
    }

    /// The request that the conversion was started with.
    pub(super) fn request(&self, resume: ResumeRequest) -> Request {
        Request {
            root: resume.root,
            host: resume.host,
            dry_run: false,
            restart: false,
            choices: self.order.choices.clone(),
            plan: self.order.options.choices,
            jobs: resume.jobs,
            cancel: resume.cancel,
            checkpoint: resume.checkpoint,
        }
    }
}
