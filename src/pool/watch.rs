//! Detects that a pool is full or has failed.
//!
//! If a pool queues writes for which it has no space, the writer hangs, and so does unmounting. So that the run can
//! end, the operator's pool is set to fail them; [`Pool`] restores its table when it is closed.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::SigSet;

use super::device_error::Error;
use super::pool_handle::PoolHandle;
use super::status::Problem;
use super::thin_pool::Pool;

/// The time between two checks; each is one call that reads nothing from the disk.
const INTERVAL: Duration = Duration::from_millis(300);

/// A thread that watches a pool. It ends when this value is dropped, which must happen before the pool is closed.
#[derive(Debug)]
pub struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts to watch. At the first problem, `on_problem` is called once; from then on [`Pool::explain`] reports it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the thread cannot be started.
    pub fn start(
        pool: &Pool,
        on_problem: impl FnOnce(Problem) + Send + 'static,
    ) -> Result<Self, Error> {
        let shared = pool.shared();
        let (stop, stopped) = channel();
        let watch = move || {
            // Signals are for the main thread.
            let _ = SigSet::all().thread_block();
            let mut on_problem = Some(on_problem);
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if let Some(problem) = look(&shared)
                    && let Some(tell) = on_problem.take()
                {
                    tell(problem);
                }
            }
        };
        let thread = thread::Builder::new()
            .name("pool watch".to_owned())
            .spawn(watch)
            .map_err(Error::io(pool.name().as_ref(), "watch"))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

fn look(pool: &PoolHandle) -> Option<Problem> {
    let problem = pool.problem().unwrap_or_else(|error| {
        log::debug!("{error}: {:?}", std::error::Error::source(&error));
        None
    });
    if problem == Some(Problem::DataFull)
        && let Err(error) = pool.stop_queueing()
    {
        let cause = std::error::Error::source(&error);
        log::warn!("{error}: {cause:?}: writes for which there was no space may hang");
    }
    problem
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::warn!("the thread that watches the pool panicked");
        }
    }
}
