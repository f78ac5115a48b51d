//! Writes a plan and moves the result into place.

use std::collections::HashSet;
use std::time::Instant;

use uuid::Uuid;

use super::error::Error;
use super::notes::Notes;
use super::planned_conversion::PlannedConversion;
use super::preflight;
use super::settle::settle;
use super::summary::{Outcome, Summary};
use super::verify::{digests, noted, staged_report};
use crate::chain::Chain;
use crate::commit::{self, BranchesRead, ProgressFile, Record, Stage, VerificationRecord};
use crate::daemon::check_devices;
use crate::engine::{self, Checkpoints, ErrorKind, WrittenPool, WrittenRun};
use crate::plan::{Layout, Plan};
use crate::progress::{Phase, Progress};
use crate::units::Bytes;
use crate::verify::{LayerDamage, Verdict};

impl PlannedConversion {
    /// The plan.
    pub fn plan(&self) -> &Plan {
        self.job.plan()
    }

    /// The plan down to the block, if the direct engine writes it.
    pub fn layout(&self) -> Option<&Layout> {
        self.job.layout()
    }

    /// What the operator should know, whether or not the plan is carried out.
    pub fn notices(&self) -> &[String] {
        &self.source.notices
    }

    /// The plan in numbers, before anything is done.
    pub fn summary(&self) -> Summary {
        Summary::new(self, None)
    }

    /// The reasons why a run would refuse; only a dry run has any.
    pub fn obstacles(&self) -> &[String] {
        &self.source.obstacles
    }

    /// Fails if a run would refuse.
    ///
    /// # Errors
    ///
    /// [`Error::Obstacles`].
    pub fn expect_no_obstacles(&self) -> Result<(), Error> {
        let source = &self.source;
        preflight::expect_none(source.path(), source.resumed.as_ref(), &source.obstacles)
    }

    /// The conversion with the obstacles that are known once the plan is made. A run ends here if there are any.
    pub(super) fn checked(mut self) -> Result<Self, Error> {
        let sizes = self.configs.iter().map(|config| config.content.len());
        for space in [
            Stage::check_space(self.source.path(), self.bytes_needed()?),
            commit::check_space_beside(self.source.path(), sizes),
        ] {
            match space {
                Err(commit::Error::Space { path, needed, free })
                    if self.source.resumed.is_some() =>
                {
                    let told = preflight::of_the_space_to_go_on(&path, needed, free);
                    self.source.obstacles.push(told);
                }
                Err(error @ (commit::Error::Space { .. } | commit::Error::SpaceBeside { .. })) => {
                    self.source.obstacles.push(error.to_string());
                }
                checked => checked?,
            }
        }
        if !self.source.request.dry_run {
            self.expect_no_obstacles()?;
        }
        Ok(self)
    }

    /// Bytes that the conversion writes: the pool's two files, and copies of the image store and the configurations.
    pub(super) fn bytes_needed(&self) -> Result<Bytes, Error> {
        let configs: usize = self.configs.iter().map(|config| config.content.len()).sum();
        let image_store = Stage::size_of_image_store(self.source.root.path())?;
        Ok(Bytes(
            self.job.bytes_needed().0 + image_store.0 + configs as u64,
        ))
    }

    /// Writes the pool and Docker's files, and moves them into place. Everything is durable on return.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`], [`Error::Commit`], [`Error::Interrupted`].
    pub fn execute(self, progress: &dyn Progress) -> Result<Summary, Error> {
        self.expect_no_obstacles()?;
        let began = Instant::now();
        let (pool, damaged) = self.write_and_move(began, progress)?;
        let done = Outcome {
            pool,
            damaged,
            elapsed: began.elapsed(),
        };
        let summary = Summary::new(&self, Some(done));
        if let Some(files) = self.source.pid_files {
            files.release();
        }
        Ok(summary)
    }

    fn write_and_move(
        &self,
        began: Instant,
        progress: &dyn Progress,
    ) -> Result<(WrittenPool, Vec<LayerDamage>), Error> {
        let root = self.source.root.path();
        let (mut stage, done) = if let Some(resumed) = &self.source.resumed {
            (Stage::reopen(root)?, Some(&resumed.done))
        } else {
            let order = serde_json::to_value(&self.order).expect("numbers and texts only");
            (Stage::create(root, order)?, None)
        };
        let notes = Notes::new(stage.journal(), done.map_or(0, HashSet::len));
        let checkpoints = Checkpoints {
            done,
            to: &notes,
            interval: self.source.request.checkpoint,
        };
        let told = ProgressFile::new(stage.path(), progress);
        let progress: &dyn Progress = &told;
        let written = self.write(&stage, checkpoints, progress);
        let durable = notes.durable();
        // The pool is taken back before the staging directory goes: the directory holds the record of it and stays if
        // that fails.
        let in_place = written.and_then(|mut pool| {
            let in_place = self
                .stage_files(&stage, pool.base_uuid)
                .and_then(|()| self.prove(&stage, pool.runs.as_deref(), progress))
                .inspect(|_| commit::pass_the_second(root))
                .and_then(|proven| self.expect_unchanged(progress).map(|()| proven))
                .and_then(|proven| self.move_in_place(&mut stage, proven, progress));
            let damaged = settle(pool.outside.take(), in_place, stage.journal())?;
            Ok((pool, damaged))
        });
        drop(told);
        // Work that takes no longer than one checkpoint interval can be redone just as fast.
        let long =
            self.source.resumed.is_some() || began.elapsed() >= self.source.request.checkpoint;
        let worth = if long { durable } else { 0 };
        in_place.map_err(|cause| self.keep_or_drop(&mut stage, worth, cause))
    }

    /// Keeps layers that took much work to write; the kernel engine has already taken them back by now.
    fn keep_or_drop(&self, stage: &mut Stage, durable: usize, cause: Error) -> Error {
        if matches!(cause, Error::Commit(commit::Error::HalfWay { .. })) {
            return cause;
        }
        let is_kept = match &cause {
            Error::Engine(error) if error.kind() == ErrorKind::NotResumed => true,
            // A wrong result would only be continued; and a changed layer leads to another plan.
            Error::Wrong { .. } | Error::LayerChanged { .. } => false,
            _ => self.job.keeps_layers(),
        };
        let keep = durable > 0 && is_kept;
        stage.keep_for_resume(keep);
        if !keep {
            return cause;
        }
        let cause = match cause {
            Error::Commit(commit::Error::NotAlone { root, cause, .. }) => {
                let words = "resume";
                Error::Commit(commit::Error::NotAlone { root, cause, words })
            }
            cause => cause,
        };
        Error::Resumable {
            root: self.source.path().to_owned(),
            cause: Box::new(cause),
            done: durable,
            all: self.job.plan().devices.len(),
        }
    }

    /// Writes the pool.
    fn write(
        &self,
        stage: &Stage,
        checkpoints: Checkpoints<'_>,
        progress: &dyn Progress,
    ) -> Result<WrittenPool, Error> {
        let owner = self.source.root.owner();
        let owner = (owner.uid, owner.gid);
        let home = stage.create_driver_home(owner)?;
        let request = &self.source.request;
        // A pool whose directory is gone may have this one's name: Docker would mistake it for the new pool.
        check_devices(&home, &request.host)?;
        let files = match self.job.pool_sizes() {
            Some(_) => Some(stage.create_loop_directory(owner)?),
            None => None,
        };
        let place = engine::Place {
            root: self.source.root.path(),
            stage: stage.path(),
            home: &home,
            files,
        };
        let options = engine::Options {
            jobs: request.jobs,
            cancel: request.cancel.clone(),
            checkpoints,
            checksums: request.choices.verify,
        };
        Ok(self.job.write(&place, &options, progress)?)
    }

    /// Writes Docker's own files for the pool.
    fn stage_files(&self, stage: &Stage, base_uuid: Uuid) -> Result<(), Error> {
        stage.write_device_files(self.job.driver_files(base_uuid))?;
        stage.copy_image_store(&self.edits)?;
        stage.write_configs(&self.configs)?;
        Ok(())
    }

    /// Reads back what was written, while nothing depends on it.
    fn prove(
        &self,
        stage: &Stage,
        runs: Option<&[WrittenRun]>,
        progress: &dyn Progress,
    ) -> Result<Option<VerificationRecord>, Error> {
        if !self.source.request.choices.verify {
            return Ok(None);
        }
        let report = staged_report(self, stage, runs, progress)?;
        match report.verdict {
            Verdict::Wrong | Verdict::Undecided => {
                // It was compared with what is there now: if the source changed since it was read, that says more.
                self.expect_unchanged(progress)?;
                let report = Box::new(report);
                return Err(Error::Wrong { report });
            }
            Verdict::SourceDamaged | Verdict::AufsChanged | Verdict::NotVerified => {
                log::warn!("{report}");
            }
            Verdict::Sound => log::info!("{report}"),
        }
        let (devices, bytes) = digests(&report);
        stage
            .journal()
            .append(&Record::Entries { devices, bytes })?;
        Ok(Some(noted(&report, None)))
    }

    /// Moves everything into place, and records the result of the preceding verification. Returns the damage that it
    /// found to be older.
    fn move_in_place(
        &self,
        stage: &mut Stage,
        verified: Option<VerificationRecord>,
        progress: &dyn Progress,
    ) -> Result<Vec<LayerDamage>, Error> {
        progress.start(Phase::Switch, 0);
        if self.source.request.cancel.is_set() {
            return Err(Error::Interrupted);
        }
        let alone = || self.source.expect_alone();
        let resumed = self.source.resumed.as_ref();
        let read = BranchesRead {
            hidden: self.hidden.clone(),
            is_written_since: resumed.is_some_and(|resumed| resumed.is_written_since),
            damage: self.damage.clone(),
        };
        stage.switch(&self.configs, self.daemon.clone(), &read, &alone)?;
        progress.finish();
        let damaged = verified.as_ref().map(|verified| verified.damaged.clone());
        if let Some(verified) = verified {
            // The conversion is done: an error would claim that it is not.
            if let Err(error) = stage.journal().append(&Record::Verified(verified)) {
                log::warn!("{}", Chain(&error));
            }
        }
        Ok(damaged.unwrap_or_default())
    }
}
