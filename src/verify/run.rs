//! A complete verification: reads the stores and the pool, then visits the devices, parents before children.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use super::contents::ContentsMode;
use super::coverage::Coverage;
use super::damage::{LayerDamage, recognise};
use super::error::Error;
use super::kernel_check::kernel_word;
use super::layer::{examine, open};
use super::layer_report::{LayerReport, Verdict};
use super::open_device::OpenDevice;
use super::pool_state::{expect_devices, expect_writable, full, needs_check, unless_out_of_reach};
use super::reach::Reach;
use super::report::{KernelCheck, Mode, Report};
use super::request::{Devices, Request};
use super::sample::sample;
use super::start;
use super::stores::{self, StoreFaults};
use super::targets::{Target, forest, targets};
use super::verification::{OpenDevices, Verification};
use crate::chain::Chain;
use crate::content::pool::Pool;
use crate::content::{Halt, ReadJob, WriteChecksums};
use crate::devicemapper::DeviceFiles;
use crate::devicemapper::driver_files::FileSystem;
use crate::docker::{Fault, Owner, Problem, Store};
use crate::progress::{Phase, Progress};
use crate::schedule::block_signals;

/// The image store that a conversion copies, relative to the root.
const ORIGINAL: &str = "image/aufs";

/// Verifies a root. Its faults are in the report.
///
/// # Errors
///
/// [`Error::Store`] if Docker's stores cannot be opened at all, [`Error::Threads`], [`Error::Interrupted`].
pub fn verify(request: &Request<'_>, progress: &dyn Progress) -> Result<Report, Error> {
    let began = Instant::now();
    let store = Store::read(request.stores)?;
    let (mut of_aufs, mut faults) = problems(request, &store);
    let (pool, files) = match &request.devices {
        None => (None, None),
        Some(devices) => {
            let found = StoreFaults::find(request)?;
            faults.extend(found.faults);
            of_aufs.extend(found.aufs);
            open_pool(devices, &mut faults)?
        }
    };
    let devices = request.devices.as_ref().zip(pool.as_ref());
    let devices = devices.map(|(place, pool)| OpenDevices {
        home: place.home,
        pool,
    });
    let mut report = begun(request, faults, pool.as_ref());
    report.aufs = of_aufs;
    let mut reach = None;
    // If the pool cannot be read, there is nothing to check.
    if let (Some(place), Some(pool), Some(files)) = (&request.devices, &pool, &files) {
        let (faults, remarks) = start::faults(request, place, (pool, files), &store);
        report.remarks = remarks;
        report.remarks.extend(full(pool));
        let faults_of_stores = &report.faults;
        report
            .remarks
            .retain(|told| !faults_of_stores.contains(told));
        report.add_faults(faults);
        if is_xfs(files) {
            reach = Some(Reach::open(request, pool));
        } else {
            report.kernel = kernel_word(request, pool, files, progress)?;
        }
    }
    if request.devices.is_none() || devices.is_some() {
        let targets = targets(&store, files.as_ref());
        let run = Verification::new(
            request,
            progress,
            (&store, &targets),
            (devices, reach.as_ref()),
        );
        let layers = run.all(request, progress);
        report.bytes_read = run.bytes_read();
        report.damaged = run.damaged();
        drop(run);
        if let Some(reach) = reach {
            report.kernel = reach.close();
        }
        report.layers = layers?;
    }
    report.add_faults([]);
    report.elapsed_seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

/// The faults of the stores: first those of the aufs side, which the devices do not depend on, then all others.
fn problems(request: &Request<'_>, store: &Store) -> (Vec<String>, Vec<String>) {
    let aufs = request.devices.and(request.stores.aufs);
    let (of_aufs, others): (Vec<_>, Vec<_>) = store
        .problems
        .iter()
        .partition(|problem| aufs.is_some_and(|aufs| problem.fault.path().starts_with(aufs)));
    let texts = |problems: Vec<&Problem>| problems.iter().map(ToString::to_string).collect();
    // Anything that was already so at the conversion is no later change; `commit` lists what was left out.
    let noted = request.noted.as_ref();
    let is_kept_name = |problem: &Problem| matches!(problem.fault, Fault::BadReference { .. });
    let is_known = |problem: &&&Problem| {
        let path = problem.fault.path();
        let in_store = path.strip_prefix(request.stores.image);
        // The original of a file in this store had that fault.
        let inner = match in_store {
            // What was written again was right then, but for names that Docker ignores, which are kept.
            Ok(inner) if request.before.edits.is_written(inner) && !is_kept_name(problem) => {
                return false;
            }
            Ok(inner) => Ok(Path::new(ORIGINAL).join(inner)),
            Err(_) => path
                .strip_prefix(request.stores.root)
                .map(Path::to_path_buf),
        };
        inner.is_ok_and(|inner| request.before.paths.contains(&*inner.to_string_lossy()))
    };
    let is_new = |path: &Path| noted.is_none_or(|noted| !(noted.is_as_it_was)(path));
    let of_aufs = of_aufs
        .into_iter()
        .filter(|problem| is_new(problem.fault.path()) && !is_known(&problem));
    let others = others.into_iter().filter(|problem| !is_known(&problem));
    (texts(of_aufs.collect()), texts(others.collect()))
}

/// A report without its layers.
fn begun(request: &Request<'_>, faults: Vec<String>, pool: Option<&Pool>) -> Report {
    Report {
        mode: request.mode,
        is_converted: request.devices.is_some(),
        verdict: Verdict::Wrong,
        elapsed_seconds: 0.0,
        bytes_read: 0,
        coverage: Coverage::default(),
        faults,
        aufs: Vec::new(),
        journal: None,
        can_go_back: false,
        lost_by_going_back: None,
        remarks: Vec::new(),
        nr_devices: pool.map_or(0, |pool| pool.thin().devices.len()),
        kernel: KernelCheck::No {
            reason: "there are no devices".to_owned(),
        },
        damaged: Vec::new(),
        layers: Vec::new(),
    }
}

/// Whether only the kernel can read the devices.
fn is_xfs(files: &DeviceFiles) -> bool {
    files
        .set
        .is_some_and(|set| set.file_system == FileSystem::Xfs)
}

type Opening = (Option<Pool>, Option<DeviceFiles>);

/// Opens the pool and reads the driver's files.
fn open_pool(devices: &Devices<'_>, faults: &mut Vec<String>) -> Result<Opening, Error> {
    expect_devices(devices.target)?;
    let files = DeviceFiles::read(devices.home)?;
    faults.extend(files.faults.iter().map(|fault| Chain(fault).to_string()));
    let pool = match Pool::open(devices.home, devices.target) {
        Ok(pool) => {
            expect_writable(&pool)?;
            let fault = pool.fault().map(|fault| Chain(fault).to_string());
            faults.extend(fault);
            faults.extend(needs_check(&pool, devices.target));
            Some(pool)
        }
        Err(error) => {
            let error = unless_out_of_reach(error)?;
            faults.push(Chain(&error).to_string());
            None
        }
    };
    if files.base.is_none() {
        faults.push(format!(
            "{}: no base device",
            devices.home.join("metadata/base").display()
        ));
    }
    Ok((pool, Some(files)))
}

impl<'a> Verification<'a> {
    fn new(
        request: &'a Request<'_>,
        progress: &'a dyn Progress,
        (store, targets): (&'a Store, &'a [Target]),
        (devices, reach): (Option<OpenDevices<'a>>, Option<&'a Reach>),
    ) -> Self {
        let forest = forest(targets);
        let sample = sample(store, targets);
        let conversion = request.conversion.as_ref();
        let layers = conversion.into_iter().flat_map(|known| &known.plan.devices);
        Self {
            work: ReadJob::new(&request.cancel, progress),
            mode: request.mode,
            reads_aufs: request.reads_aufs,
            store,
            targets,
            devices,
            aufs: request.stores.aufs,
            owner: Owner::of_root(request.stores.root),
            original: stores::original(request),
            noted: request.noted,
            known_branches: layers
                .filter_map(|device| device.layer.as_ref())
                .map(|layer| (&layer.id, layer))
                .collect(),
            reach,
            written: conversion
                .and_then(|known| known.written)
                .map(WriteChecksums::new),
            below_sample: forest.with_all_below(sample.iter().copied()),
            sample,
            forest,
            done: targets.iter().map(|_| OnceLock::new()).collect(),
            known_damage: request.known_damage,
            damaged: Mutex::default(),
        }
    }

    /// How the contents of a target are checked.
    pub(super) fn how(&self, place: usize) -> ContentsMode<'a> {
        match (self.mode, self.written) {
            (_, Some(written)) => ContentsMode::Checksums(written),
            (Mode::Full, None) => ContentsMode::Read,
            (Mode::Quick, None) if self.sample.contains(&place) => ContentsMode::Read,
            (Mode::Quick, None) => ContentsMode::Not,
        }
    }

    /// Whether a quick verification checks a target's contents; it always checks the base device.
    pub(super) fn is_sampled(&self, place: usize) -> bool {
        self.sample.contains(&place) || self.targets[place].id.is_none()
    }

    /// Whether a target's branch is part of the comparison of a device that is checked.
    pub(super) fn needs_stack(&self, place: usize) -> bool {
        self.mode == Mode::Full || self.below_sample.contains(&place)
    }

    fn bytes_read(&self) -> u64 {
        self.work.bytes_read()
    }

    /// Examines all targets; the reports list parents before children.
    fn all(
        &self,
        request: &Request<'_>,
        progress: &dyn Progress,
    ) -> Result<Vec<LayerReport>, Error> {
        let jobs = request.jobs.get();
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(jobs)
            // A call that mounts a device must not be interrupted. The waiting thread gets the signals.
            .start_handler(|_| block_signals())
            .build()
            .map_err(|source| Error::Threads { jobs, source })?;
        progress.start(Phase::Verify, self.targets.len() as u64);
        threads.scope(|scope| {
            for &place in self.forest.roots() {
                scope.spawn(move |scope| self.visit(scope, place, None));
            }
        });
        progress.finish();
        if self.work.is_cancelled() {
            return Err(Error::Interrupted);
        }
        let reports = self.forest.by_chain().into_iter().map(|place| {
            let report = self.done[place].get();
            report.cloned().expect("every target has its turn")
        });
        Ok(reports.collect())
    }

    /// Reads a target's device, passes it on to the targets that are its snapshots, and then examines it.
    fn visit<'s>(
        &'s self,
        scope: &rayon::Scope<'s>,
        place: usize,
        below: Option<Arc<OpenDevice<'s>>>,
    ) where
        'a: 's,
    {
        if self.work.is_cancelled() {
            return;
        }
        let opened = open(self, place, below.as_deref()).map(Arc::new);
        for &child in self.forest.children(place) {
            let opened = opened.as_ref().ok().cloned();
            // Spawned instead of called: a chain may be deeper than a thread's stack.
            scope.spawn(move |scope| self.visit(scope, child, opened));
        }
        let examined = examine(self, place, &opened, below.as_deref());
        let examined = examined.and_then(|report| {
            let opened = opened.as_deref().ok();
            self.with_damage(report, opened, below.as_deref())
        });
        match examined {
            Ok(report) => {
                let set = self.done[place].set(report);
                set.expect("each target has its turn once");
                self.work.layer_done();
            }
            Err(Halt::Interrupted) => {}
            Err(halt) => unreachable!("{halt}: told in the layer's report"),
        }
        // A parent's view is freed with the last of its children.
        drop(below);
    }

    /// Records damage from before the conversion, and recognizes it when aufs is gone.
    fn with_damage(
        &self,
        mut report: LayerReport,
        opened: Option<&OpenDevice<'_>>,
        below: Option<&OpenDevice<'_>>,
    ) -> Result<LayerReport, Halt> {
        let Some(opened) = opened else {
            return Ok(report);
        };
        let devices = (opened, below);
        let known = self.known_damage;
        let looked = match self.aufs {
            Some(_) => Ok(()),
            None => recognise(&self.work, known, &mut report, devices),
        };
        let found = looked.and_then(|()| LayerDamage::found(&self.work, &report, devices));
        match found {
            Err(Halt::Interrupted) => return Err(Halt::Interrupted),
            // Unreadable parts were reported where they were read.
            Err(_) | Ok(None) => {}
            Ok(Some(found)) => {
                let damaged = self.damaged.lock();
                damaged.unwrap_or_else(PoisonError::into_inner).push(found);
            }
        }
        Ok(report)
    }

    fn damaged(&self) -> Vec<LayerDamage> {
        let damaged = self.damaged.lock();
        let mut damaged = damaged.unwrap_or_else(PoisonError::into_inner).clone();
        damaged.sort_by(|a, b| a.layer.cmp(&b.layer));
        damaged
    }
}
