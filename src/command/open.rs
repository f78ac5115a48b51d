//! Opens the root to be converted, and checks that it can be.

use std::path::Path;

use rayon::prelude::*;
use uuid::Uuid;

use super::damage::Damage;
use super::dead_end::dead_end;
use super::earlier_run::EarlierRun;
use super::error::Error;
use super::keep_out::keep_docker_out;
use super::layer_proof::is_layer;
use super::left::left_by;
use super::mounted::expect_unmounted;
use super::open_root::OpenRoot;
use super::planned_conversion::PlannedConversion;
use super::read::{read_layers, switch_configs};
use super::recorded_options::{PlanRecord, RecordedOptions};
use super::request::{Request, ResumeRequest};
use super::store_times::Stores;
use super::whole_source::{expect_store_of, expect_whole_source};
use super::{first_start, plan_error, preflight};
use crate::commit::{
    self, Journal, JournalState, Leftover, RootLock, State, expect_unmounted_stage,
};
use crate::daemon::NotAlone;
use crate::docker::{CacheId, Root, Survey};
use crate::plan::{self, LayerMark};
use crate::privileges;
use crate::progress::{Phase, Progress};
use crate::tree::Timestamp;

impl OpenRoot {
    /// Opens the root and checks everything that can be checked before its layers are read. Keeps Docker from starting,
    /// unless only a plan is wanted.
    ///
    /// # Errors
    ///
    /// Whatever prevents the conversion. Nothing in the root has been changed, but leftovers of a killed run may be
    /// gone.
    pub fn open(request: Request) -> Result<Self, Error> {
        let root = Root::open(&request.root)?;
        if !request.dry_run && !nix::unistd::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        // For a plan too: otherwise it would cover what is visible, not what is there.
        privileges::check(&request.host, root.path(), request.choices.writer.purpose())?;
        // A plan made beside another run would mistake what that run made for leftovers. The plan itself keeps no other
        // run out.
        let root_lock = Some(RootLock::acquire(root.path())?).filter(|_| !request.dry_run);
        let leftover = Leftover::look_for(root.path())?;
        expect_no_conversion(root.path(), &leftover, request.restart)?;
        root.check_target_free()?;
        let mut obstacles = preflight::of_the_root(&root, &request.host);
        if !request.dry_run {
            preflight::expect_none(root.path(), None, &obstacles)?;
        }
        let mut notices = Vec::new();
        let pid_files = keep_docker_out(&root, &request.host, request.dry_run, &mut notices)?;
        expect_unmounted_stage(root.path())?;
        if let Err(mounted) = expect_unmounted(root.path(), &request.host) {
            // The obstacles say what to do about the mounts.
            preflight::expect_none(root.path(), None, &obstacles)?;
            return Err(mounted);
        }
        expect_whole_source(root.path(), &leftover, &request.cancel)?;
        let left = deal_with_leftovers(&root, &leftover, request.dry_run, &mut notices)?;
        let engine = request.choices.writer.check().map_err(|error| {
            if left.is_empty() {
                return error;
            }
            Error::LeftoversFirst {
                left: left.join(", "),
                source: Box::new(error),
            }
        })?;
        notices.extend_from_slice(engine.notices());
        let stores = Stores::look(root.path());
        let model = survey(&root, &request).into_model(request.choices.orphans)?;
        let damage = model.problems.iter().map(Damage::of).collect();
        notices.extend(model.warnings.iter().map(ToString::to_string));
        obstacles.extend(preflight::of_the_containers(&root, &model));
        if !request.dry_run {
            preflight::expect_none(root.path(), None, &obstacles)?;
        }
        Ok(Self {
            request,
            root,
            model,
            stores,
            notices,
            damage,
            obstacles,
            by_hand: Vec::new(),
            is_told: false,
            engine,
            pid_files,
            resumed: None,
            _root_lock: root_lock,
        })
    }

    /// Opens the root of a conversion that was interrupted while it wrote layers, to continue it.
    ///
    /// # Errors
    ///
    /// [`Error::NothingToResume`], or whatever prevents it from continuing; nothing has been changed.
    pub fn resume(request: ResumeRequest) -> Result<Self, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let root = Root::open(&request.root)?;
        let root_lock = Some(RootLock::acquire(root.path())?);
        let leftover = Leftover::look_for(root.path())?;
        let resumed = EarlierRun::of(&leftover, root.path())?;
        root.check_target_free()?;
        let request = resumed.request(request);
        let obstacles = preflight::of_the_root(&root, &request.host);
        preflight::expect_none(root.path(), Some(&resumed), &obstacles)?;
        privileges::check(&request.host, root.path(), request.choices.writer.purpose())?;
        let mut notices = Vec::new();
        let pid_files = keep_docker_out(&root, &request.host, request.dry_run, &mut notices)?;
        expect_unmounted_stage(root.path())?;
        expect_unmounted(root.path(), &request.host)?;
        // What it had staged is made anew.
        if let Leftover::Conversion(stage, story) = &leftover {
            expect_store_of((root.path(), stage), story)?;
        }
        let left = left_by(root.path(), &leftover)?;
        let engine = if resumed.done.is_empty() {
            left.remove()?;
            request.choices.writer.check()?
        } else {
            left.but_its_content().remove()?;
            request
                .choices
                .writer
                .check_left(resumed.order.options.transaction_before)?
        };
        let stores = Stores::look(root.path());
        let model = survey(&root, &request).into_model(request.choices.orphans)?;
        let damage = model.problems.iter().map(Damage::of).collect();
        notices.extend(model.warnings.iter().map(ToString::to_string));
        let obstacles: Vec<_> = preflight::of_the_containers(&root, &model)
            .into_iter()
            .collect();
        preflight::expect_none(root.path(), Some(&resumed), &obstacles)?;
        Ok(Self {
            request,
            root,
            model,
            stores,
            notices,
            damage,
            obstacles,
            by_hand: Vec::new(),
            is_told: false,
            engine,
            pid_files,
            resumed: Some(resumed),
            _root_lock: root_lock,
        })
    }

    /// Reads the layers and computes the plan. Writes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`], [`Error::Beyond`], [`Error::Plan`], [`Error::Config`], [`Error::Interrupted`], or too little
    /// space.
    pub fn plan(mut self, progress: &dyn Progress) -> Result<PlannedConversion, Error> {
        let layers = read_layers(&mut self, progress)?;
        self.notices.extend(layers.notices);
        let edits = self.store_edits(&layers.layers);
        let damage = self.damage_record(&edits);
        let configs = switch_configs(&self.root, &self.model)?;
        let options = match &self.resumed {
            Some(resumed) => resumed.order.options.clone(),
            None => self.plan_options(),
        };
        let mut order = RecordedOptions::new(&self.request, &options);
        order.name_pool(self.engine.pool());
        let marks = layers.layers.par_iter().map(LayerMark::of).collect();
        progress.start(Phase::Plan, 0);
        let job = self.engine.plan(layers.layers, &options);
        progress.finish();
        let job = job.map_err(|error| plan_error::told(error, self.root.path(), &self.model))?;
        let planned = PlanRecord::of((self.root.path(), &self.model), &*job, marks, &configs);
        if let Some(resumed) = &mut self.resumed {
            resumed.expect_same(&planned, self.root.path())?;
        }
        order.planned = Some(planned.with_damage(&damage));
        order.devices = u32::try_from(job.plan().devices.len()).ok();
        self.notices.extend(job.check_room()?);
        let mut daemon = first_start::look(&mut self, &*job);
        let root = self.root.path();
        let mut obstacles = preflight::of_the_pool(root, &*job);
        let untold = preflight::untold(daemon.as_ref());
        if self.resumed.is_none() {
            obstacles.extend(preflight::of_the_daemon(root, daemon.as_ref()));
        } else if !untold.is_empty() {
            // The layers already written are worth more than a file that an operator can edit.
            daemon = None;
            let by_hand = "the conversion continues without it: change the settings by hand before Docker starts";
            let told = untold.iter().map(|what| format!("{what}; {by_hand}"));
            self.notices.extend(told);
        }
        self.obstacles.extend(obstacles);
        let prepared = PlannedConversion {
            source: self,
            job,
            order,
            daemon,
            configs,
            counts: layers.counts,
            lost_flags: layers.lost_flags,
            edits,
            damage,
            hidden: layers.hidden,
        };
        if !prepared.source.request.cancel.is_set() {
            return prepared.checked();
        }
        Err(Error::Interrupted)
    }

    /// The root's path, with symbolic links resolved.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Checks that nobody else is working on the root.
    pub(super) fn expect_alone(&self) -> Result<(), NotAlone> {
        match &self.pid_files {
            Some(files) => files.expect_alone(Some(self.root.data_dir()), &self.request.host),
            None => Ok(()),
        }
    }

    fn plan_options(&self) -> plan::Options {
        let seed = Uuid::new_v4().into_bytes();
        let word =
            |at: usize| u32::from_le_bytes([seed[at], seed[at + 1], seed[at + 2], seed[at + 3]]);
        plan::Options {
            choices: self.request.plan,
            transaction_before: self.engine.transaction_before(),
            uuid: Uuid::new_v4(),
            hash_seed: [word(0), word(4), word(8), word(12)],
            created: now(),
        }
    }
}

/// Reads Docker's stores, and makes good what may be.
fn survey(root: &Root, request: &Request) -> Survey {
    if request.choices.repair {
        let proof =
            |branch: &CacheId, chain, diff| is_layer(root, &request.cancel, (branch, chain, diff));
        Survey::with_proof(root, &proof)
    } else {
        Survey::without_repairs(root)
    }
}

/// Refuses to convert again if the root is converted, or to discard a conversion that was interrupted while it moved.
/// The layers that a conversion has written are discarded only if that was ordered.
fn expect_no_conversion(root: &Path, leftover: &Leftover, restart: bool) -> Result<(), Error> {
    let path = root.to_owned();
    let Leftover::Conversion(_, story) = leftover else {
        return Ok(());
    };
    match story.state {
        State::Writing if story.durable.is_empty() || restart => Ok(()),
        State::Writing => Err(Error::LayersKept {
            path,
            kept: kept(story),
        }),
        State::Converted => Err(Error::AlreadyConverted { path }),
        state => Err(dead_end(root).unwrap_or(commit::Error::Unfinished { path, state }.into())),
    }
}

/// How many layers an interrupted conversion has written, and out of how many if its journal has that number.
pub(super) fn kept(story: &JournalState) -> String {
    let done = story.durable.len();
    match RecordedOptions::devices_of(story) {
        Some(all) => format!("{done} of {all}"),
        None => done.to_string(),
    }
}

/// Reports what an interrupted run left, and takes down what would be in the way: its devices, mounts and loop devices,
/// and what it had begun in a pool. Its staging directory is replaced later. Returns what a dry run does not take down.
fn deal_with_leftovers(
    root: &Root,
    leftover: &Leftover,
    dry_run: bool,
    notices: &mut Vec<String>,
) -> Result<Vec<String>, Error> {
    let stage = leftover.stage();
    let left = left_by(root.path(), leftover)?;
    let (becomes, taken) = if dry_run {
        ("would be replaced", "would be removed")
    } else {
        ("is replaced", "is removed")
    };
    let names = left.describe();
    for what in &names {
        notices.push(format!(
            "{what}: left behind by an interrupted run, {taken}"
        ));
    }
    if let Some(path) = stage {
        notices.push(format!(
            "{}: left behind by an interrupted run, {becomes}",
            path.display()
        ));
    }
    if dry_run {
        return Ok(names);
    }
    // What can refuse comes first, while nothing has been changed. What goes next is outside the staging directory, and
    // no run may continue with the remains if this one is killed.
    left.take_down()?;
    if let (Leftover::Conversion(stage, _), false) = (leftover, names.is_empty()) {
        Journal::reopen(stage)?.note_undone();
    }
    left.remove()?;
    Ok(Vec::new())
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::new(
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        since.subsec_nanos(),
    )
}
