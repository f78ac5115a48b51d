//! Breaks a command off at each of the calls by which it changes something.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;

use super::place::Place;
use super::support::cpu::stay_on_one_cpu;
use super::support::tree::Tree;
use super::tracer::{Fault, Moment, Traced};

/// A command to be broken off.
pub(crate) struct Sweep<'a> {
    /// What it is called in the report.
    pub(crate) name: &'a str,
    /// The verb and its options.
    pub(crate) words: &'a [&'a str],
    /// The root that it is run on.
    pub(crate) start: &'a Tree,
    /// What is run on that before, undisturbed: what a copy of a root does not keep.
    pub(crate) before: &'a [&'a [&'a str]],
    /// How each call is broken off, by its number.
    pub(crate) faults: &'a [fn(usize) -> Fault],
    /// Fails unless all is well on the root that a run with a fault left.
    pub(crate) judge: &'a (dyn Fn(&Place, &Traced) -> Result<()> + Sync),
}

/// Each call fails once, with one of the usual errors in turn, and is killed once: before it, and in the middle where it
/// writes something.
pub(crate) const EACH: &[fn(usize) -> Fault] = &[
    |call| Fault::Fail([Errno::EIO, Errno::ENOSPC, Errno::EPERM][call % 3]),
    |_| Fault::Kill,
    |_| Fault::Tear,
];

/// Each call is the last one, before it is made.
pub(crate) const KILLS: &[fn(usize) -> Fault] = &[|_| Fault::Kill];

/// The disk goes bad at each call and stays so.
pub(crate) const FOR_GOOD: &[fn(usize) -> Fault] = &[
    |_| Fault::FailFrom(Errno::EROFS),
    |_| Fault::FailFrom(Errno::ENOSPC),
];

/// `K/N`: of the cases of each sweep only every N-th, from the K-th on. What takes hours is done in shares.
const SHARE_VARIABLE: &str = "FAULTS_SHARE";

/// How often a run is repeated in which a call does not come, since threads took turns in another way.
const TRIES: usize = 5;

/// A sweep says how far it is after so many faults.
const PROGRESS: usize = 250;

impl Sweep<'_> {
    /// Tries every call in every way, and panics with what went wrong.
    pub(crate) fn run(&self) {
        let began = Instant::now();
        let calls = self.calls().unwrap();
        let cases: Vec<_> = (0..calls.len())
            .flat_map(|call| self.faults.iter().map(move |fault| (call, fault(call))))
            // Where nothing is written it would be the same as a kill.
            .filter(|(call, fault)| *fault != Fault::Tear || writes(&calls[*call]))
            .collect();
        let (cases, all) = (share_of(&cases), cases.len());
        let (others, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        // At each call the command and its tracer take turns.
        let begin = |number| stay_on_one_cpu(number).unwrap();
        let wrong = in_parallel(&cases, begin, |place, &(call, fault)| {
            let nr_done = done.fetch_add(1, Ordering::Relaxed);
            if nr_done > 0 && nr_done % PROGRESS == 0 {
                eprintln!("{}: {nr_done} of {} faults", self.name, cases.len());
            }
            let met = self
                .broken_off(place, fault, Moment::of(&calls, call))
                .with_context(|| format!("call {call}, {fault:?}, {}", calls[call]))?;
            others.fetch_add(usize::from(met != call), Ordering::Relaxed);
            Ok(())
        });
        eprintln!(
            "{}: {} calls, {} of {all} faults ({} at another number), {} exceptions, {} s",
            self.name,
            calls.len(),
            cases.len(),
            others.into_inner(),
            wrong.len(),
            began.elapsed().as_secs()
        );
        assert!(wrong.is_empty(), "{}:\n{}", self.name, wrong.join("\n\n"));
    }

    /// Puts down the root.
    fn begin(&self, place: &Place) -> Result<()> {
        place.put(self.start)?;
        for words in self.before {
            place.broken(self.start).done(words)?;
        }
        Ok(())
    }

    /// The calls of an undisturbed run.
    fn calls(&self) -> Result<Vec<String>> {
        let place = Place::new()?;
        self.begin(&place)?;
        let traced = place.trace(self.words, None)?;
        ensure!(traced.code == Some(0), "{}: {traced:#?}", self.name);
        Ok(traced.calls)
    }

    /// The number at which the call was met.
    fn broken_off(&self, place: &Place, fault: Fault, moment: Moment<'_>) -> Result<usize> {
        for _ in 0..TRIES {
            self.begin(place)?;
            let traced = place.trace(self.words, Some((fault, moment)))?;
            let Some(met) = traced.met else {
                continue;
            };
            (self.judge)(place, &traced).with_context(|| {
                format!("ended with {:?}, saying:\n{}", traced.code, traced.err)
            })?;
            return Ok(met);
        }
        bail!("the call was not made in {TRIES} runs")
    }
}

/// Those of the cases that are asked for.
fn share_of<T: Copy>(cases: &[T]) -> Vec<T> {
    let Ok(share) = std::env::var(SHARE_VARIABLE) else {
        return cases.to_vec();
    };
    let parts = share
        .split_once('/')
        .and_then(|(from, every)| Some((from.parse().ok()?, every.parse().ok()?)))
        .filter(|&(from, every): &(usize, usize)| (1..=every).contains(&from));
    let (from, every) = parts.unwrap_or_else(|| panic!("{SHARE_VARIABLE}={share}: want K/N"));
    cases
        .iter()
        .skip(from - 1)
        .step_by(every)
        .copied()
        .collect()
}

/// Whether a torn call differs from one that is not made.
fn writes(call: &str) -> bool {
    ["write ", "pwrite64 ", "copy_file_range "]
        .iter()
        .any(|name| call.starts_with(name))
}

/// Does the work for each item, on all processors, in threads that begin as told; what went wrong.
pub(crate) fn in_parallel<T: Sync>(
    items: &[T],
    begin: impl Fn(usize) + Sync,
    work: impl Fn(&Place, &T) -> Result<()> + Sync,
) -> Vec<String> {
    let _alone = alone();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    let nr_threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for number in 0..nr_threads {
            let (next, wrong, begin, work) = (&next, &wrong, &begin, &work);
            scope.spawn(move || {
                begin(number);
                let place = Place::new().unwrap();
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = work(&place, item) {
                        wrong.lock().unwrap().push(format!("{error:#}"));
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

/// The tests that keep all processors busy take turns.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
