//! Runs work along the layer DAG with a bounded number of layers at a time.
//!
//! `plan::schedule` does something similar with rayon, for work that only computes and passes results down. Here, each
//! item holds an active device, a mount and buffers while it waits for the kernel. A rayon worker that waits inside an
//! item, for example for a copy of its files, begins other items meanwhile, nested in each other, so their number would
//! have no bound. The threads here are plain threads, and each has one item.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use crate::forest::Forest;

/// Calls `work(item)` once for every index of `parents`, after the call for its parent has succeeded, with at most
/// `workers` items at a time. Returns when everything is done.
///
/// Among the items that are ready, the one with the longest chain above it comes first, then the one with the lowest
/// index: what takes longest is begun first. A single worker therefore has a fixed order.
///
/// The threads block SIGINT, SIGTERM and SIGHUP, so that the system calls in `work` are not interrupted; the caller's
/// own thread only waits.
///
/// # Errors
///
/// The first error from `work`; no item is begun after it, and items in progress are waited for.
///
/// # Panics
///
/// If `work` panics, with the same handling as for an error; and if an item is its own ancestor or has a nonexistent
/// parent.
pub fn run_parents_first<E: Send>(
    parents: &[Option<usize>],
    workers: NonZeroUsize,
    work: impl Fn(usize) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let queue = Queue::new(parents);
    let workers = workers.get().min(parents.len());
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for _ in 0..workers {
            let thread = thread::Builder::new().spawn_scoped(scope, || {
                block_signals();
                queue.work_off(&work);
            });
            match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    log::warn!(
                        "started only {} of {workers} threads: {error}",
                        threads.len()
                    );
                    break;
                }
            }
        }
        if threads.is_empty() {
            queue.work_off(&work);
        }
        for thread in threads {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    queue
        .state
        .into_inner()
        .expect(NO_PANIC)
        .error
        .map_or(Ok(()), Err)
}

/// The reason why the lock is never poisoned.
const NO_PANIC: &str = "nothing panics while it holds the lock";

/// Blocks SIGINT, SIGTERM and SIGHUP in this thread, so that none of its system calls is interrupted.
pub(crate) fn block_signals() {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect();
    if let Err(errno) = signals.thread_block() {
        log::debug!("signals cannot be blocked: {errno}");
    }
}

/// An item that is ready, with the length of the longest chain waiting for it; the greatest comes next.
type Ready = (usize, Reverse<usize>);

struct Queue<E> {
    forest: Forest,
    /// For each item, the length of the longest chain above it.
    above: Vec<usize>,
    state: Mutex<State<E>>,
    changed: Condvar,
}

struct State<E> {
    ready: BinaryHeap<Ready>,
    /// Number of items that have begun and not ended.
    running: usize,
    /// Whether no more items are begun.
    stopped: bool,
    error: Option<E>,
}

impl<E> Queue<E> {
    fn new(parents: &[Option<usize>]) -> Self {
        let forest = Forest::new(parents.to_vec());
        assert!(
            forest.on_circles().is_empty(),
            "no item is its own ancestor"
        );
        let above = forest.chains_above();
        let roots = forest.roots().iter();
        Self {
            state: Mutex::new(State {
                ready: roots.map(|&root| (above[root], Reverse(root))).collect(),
                running: 0,
                stopped: false,
                error: None,
            }),
            forest,
            above,
            changed: Condvar::new(),
        }
    }

    fn work_off(&self, work: impl Fn(usize) -> Result<(), E>) {
        while let Some(item) = self.begin() {
            let ended = catch_unwind(AssertUnwindSafe(|| work(item)));
            let mut state = self.lock();
            state.running -= 1;
            match &ended {
                Ok(Ok(())) => {
                    let children = self.forest.children(item).iter();
                    let ready = children.map(|&child| (self.above[child], Reverse(child)));
                    state.ready.extend(ready);
                }
                Ok(Err(_)) | Err(_) => state.stopped = true,
            }
            // Other threads may be waiting for an item, or for the last one to end.
            self.changed.notify_all();
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    state.error.get_or_insert(error);
                }
                Err(panic) => {
                    drop(state);
                    resume_unwind(panic);
                }
            }
        }
    }

    /// Waits for an item; `None` if no more will come.
    fn begin(&self) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some((_, Reverse(item))) = state.ready.pop() {
                state.running += 1;
                return Some(item);
            }
            if state.running == 0 {
                return None;
            }
            state = self.changed.wait(state).expect(NO_PANIC);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().expect(NO_PANIC)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    fn workers(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).unwrap()
    }

    /// Runs everything and returns the order in which the items ended.
    fn order(parents: &[Option<usize>], count: usize) -> Vec<usize> {
        let order = Mutex::new(Vec::new());
        let done = run_parents_first(parents, workers(count), |item| {
            order.lock().unwrap().push(item);
            Ok::<_, Infallible>(())
        });
        done.unwrap();
        order.into_inner().unwrap()
    }

    #[test]
    fn the_longest_chain_is_first_then_the_lowest_index() {
        assert_eq!(order(&[None, None, None], 1), [0, 1, 2]);
        // 1-3-4 is the longest chain; 5 is a child of 0.
        let parents = [None, None, None, Some(1), Some(3), Some(0)];
        assert_eq!(order(&parents, 1), [1, 0, 3, 2, 4, 5]);
        assert_eq!(order(&[Some(2), Some(0), None], 1), [2, 0, 1]);
        assert_eq!(order(&[], 4), [0; 0]);
    }

    fn assert_parents_first(parents: &[Option<usize>], order: &[usize]) {
        let mut place = vec![None; parents.len()];
        for (at, &item) in order.iter().enumerate() {
            assert_eq!(place[item].replace(at), None, "{item} had two turns");
        }
        for (item, parent) in parents.iter().enumerate() {
            assert!(place[item].is_some(), "{item} had no turn");
            if let Some(parent) = parent {
                assert!(place[*parent] < place[item], "{item} before its parent");
            }
        }
    }

    #[test]
    fn long_chains_many_roots_and_bushes_are_worked_off_parents_first() {
        let chain: Vec<_> = (0..50_000usize).map(|at| at.checked_sub(1)).collect();
        let roots = vec![None; 50_000];
        let bush: Vec<_> = (0..50_000usize)
            .map(|at| at.checked_sub(1).map(|below| below / 3))
            .collect();
        for parents in [chain, roots, bush] {
            assert_parents_first(&parents, &order(&parents, 8));
        }
    }

    #[test]
    fn as_many_items_are_under_way_as_there_are_workers_and_never_more() {
        let (active, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let begin = Instant::now();
        let parents: Vec<_> = (0..30usize).map(|at| at.checked_sub(10)).collect();
        let done = run_parents_first(&parents, workers(3), |_| {
            let now = active.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            while most.load(Ordering::SeqCst) < 3 && begin.elapsed() < Duration::from_secs(20) {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(1));
            active.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, Infallible>(())
        });
        done.unwrap();
        assert_eq!(most.into_inner(), 3);
    }

    #[test]
    fn the_first_error_in_time_ends_the_run() {
        let ended = Mutex::new(Vec::new());
        let (begun, both, zero_failed) = (AtomicUsize::new(0), 2, AtomicBool::new(false));
        // 0 and 1 run at the same time, 0 fails, then 1; 2 and everything above 0 and 1 are never begun.
        let parents = [None, None, None, Some(0), Some(1)];
        let result = run_parents_first(&parents, workers(both), |item| {
            begun.fetch_add(1, Ordering::SeqCst);
            while begun.load(Ordering::SeqCst) < both {
                thread::yield_now();
            }
            if item == 1 {
                while !zero_failed.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                // Its error is passed in after this.
                thread::sleep(Duration::from_millis(50));
            }
            ended.lock().unwrap().push(item);
            zero_failed.store(true, Ordering::SeqCst);
            Err::<(), _>(item)
        });
        assert_eq!(result, Err(0));
        assert_eq!(ended.into_inner().unwrap(), [0, 1]);
    }

    #[test]
    fn a_panic_ends_the_run_and_reaches_the_caller() {
        let parents: Vec<_> = (0..100usize).map(|at| at.checked_sub(4)).collect();
        let panic = catch_unwind(|| {
            run_parents_first(&parents, workers(4), |item| {
                assert_ne!(item, 5, "five");
                Ok::<_, Infallible>(())
            })
        });
        let text = panic.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains("five"), "{text}");
    }

    #[test]
    #[should_panic(expected = "its own ancestor")]
    fn a_circle_is_a_bug_of_the_caller() {
        order(&[None, Some(2), Some(1)], 1);
    }

    #[test]
    fn workers_block_the_signals_and_the_caller_does_not() {
        let before = SigSet::thread_get_mask().unwrap();
        let done = run_parents_first(&[None], workers(1), |_| {
            let mask = SigSet::thread_get_mask().unwrap();
            for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
                assert!(mask.contains(signal), "{signal}");
            }
            Ok::<_, Infallible>(())
        });
        done.unwrap();
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }
}
