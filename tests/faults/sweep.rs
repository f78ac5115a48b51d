//! Breaks a command off at each of the calls by which it changes something.

use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;

use super::place::Place;
use super::support::tree::Tree;
use super::tracer::{Fault, Traced};

/// A command to be broken off.
pub(crate) struct Sweep<'a> {
    /// What it is called in the report.
    pub(crate) name: &'a str,
    /// The verb and its options.
    pub(crate) words: &'a [&'a str],
    /// The root that it is run on.
    pub(crate) start: &'a Tree,
    /// How the calls are broken off.
    pub(crate) faults: &'a [fn(usize) -> Fault],
    /// Fails unless all is well on the root that a run with a fault left.
    pub(crate) judge: &'a (dyn Fn(&Place, &Traced) -> Result<()> + Sync),
}

/// Each call fails once, with one of the usual errors in turn, and is killed once: before it, and in the middle where it
/// writes something.
pub(crate) const EACH: &[fn(usize) -> Fault] = &[fail, Fault::Kill, Fault::Tear];

/// The disk goes bad at each call and stays so.
pub(crate) const FOR_GOOD: &[fn(usize) -> Fault] = &[
    |call| Fault::FailFrom(call, Errno::EROFS),
    |call| Fault::FailFrom(call, Errno::ENOSPC),
];

fn fail(call: usize) -> Fault {
    Fault::Fail(call, [Errno::EIO, Errno::ENOSPC, Errno::EPERM][call % 3])
}

impl Sweep<'_> {
    /// Tries every call in every way, and panics with what went wrong.
    pub(crate) fn run(&self) {
        let began = Instant::now();
        let calls = self.calls().unwrap();
        let cases: Vec<_> = (0..calls.len())
            .flat_map(|call| self.faults.iter().map(move |fault| (call, fault(call))))
            // Where nothing is written it would be the same as a kill.
            .filter(|(call, fault)| !matches!(fault, Fault::Tear(_)) || writes(&calls[*call]))
            .collect();
        let wrong = in_parallel(&cases, |place, &(call, fault)| {
            self.broken_off(place, &calls, call, fault)
                .with_context(|| format!("{fault:?}: {}", calls[call]))
        });
        eprintln!(
            "{}: {} calls, {} faults, {} exceptions, {} s",
            self.name,
            calls.len(),
            cases.len(),
            wrong.len(),
            began.elapsed().as_secs()
        );
        assert!(wrong.is_empty(), "{}:\n{}", self.name, wrong.join("\n\n"));
    }

    /// The calls of an undisturbed run.
    fn calls(&self) -> Result<Vec<String>> {
        let place = Place::new()?;
        place.put(self.start)?;
        let traced = place.trace(self.words, Fault::None)?;
        ensure!(traced.code == Some(0), "{}: {traced:#?}", self.name);
        Ok(traced.calls)
    }

    fn broken_off(&self, place: &Place, calls: &[String], call: usize, fault: Fault) -> Result<()> {
        place.put(self.start)?;
        let traced = place.trace(self.words, fault)?;
        let same = traced.calls.iter().zip(calls).take(call + 1);
        let same = same.take_while(|(now, before)| now == before).count();
        ensure!(
            same == call + 1,
            "call {same} was another than in the undisturbed run: {:?}",
            traced.calls.get(same)
        );
        (self.judge)(place, &traced).with_context(|| {
            let told = traced.err.lines().filter(|line| !line.contains(" of "));
            let told: Vec<_> = told.collect();
            format!("ended with {:?}, saying:\n{}", traced.code, told.join("\n"))
        })
    }
}

/// Whether a torn call differs from one that is not made.
fn writes(call: &str) -> bool {
    ["write ", "pwrite64 ", "copy_file_range "]
        .iter()
        .any(|name| call.starts_with(name))
}

/// Does the work for each item, on all processors; what went wrong.
pub(crate) fn in_parallel<T: Sync + Debug>(
    items: &[T],
    work: impl Fn(&Place, &T) -> Result<()> + Sync,
) -> Vec<String> {
    let _alone = alone();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    let nr_threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..nr_threads {
            scope.spawn(|| {
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
