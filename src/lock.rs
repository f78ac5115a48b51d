//! Locks that show who is working on something. They are on open files (`flock`) and end with the process.

use std::fs::File;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// How long to wait for a lock. If a run is killed while it starts a child, that child has the run's open files until
/// it executes another program: then the child holds the lock, not a run.
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// Locks a file for this process alone.
///
/// # Errors
///
/// `EWOULDBLOCK` if another process has it and keeps it; otherwise the error from `flock`.
pub(crate) fn exclusive(file: File) -> Result<Flock<File>, Errno> {
    exclusive_within(file, PATIENCE)
}

/// Like [`exclusive`], with a given patience.
///
/// # Errors
///
/// As for [`exclusive`].
pub(crate) fn exclusive_within(mut file: File, patience: Duration) -> Result<Flock<File>, Errno> {
    let began = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((again, Errno::EWOULDBLOCK)) if began.elapsed() < patience => file = again,
            Err((_, errno)) => return Err(errno),
        }
        sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_let_go_soon_is_waited_for() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let held = exclusive(file.reopen().unwrap()).unwrap();
        let begin = Instant::now();
        let thread = std::thread::spawn(move || {
            sleep(PATIENCE / 4);
            drop(held);
        });
        exclusive(file.reopen().unwrap()).unwrap();
        assert!(begin.elapsed() >= PATIENCE / 4);
        thread.join().unwrap();
    }

    #[test]
    fn a_lock_that_is_kept_is_not_had() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let _held = exclusive(file.reopen().unwrap()).unwrap();
        let error = exclusive(file.reopen().unwrap()).unwrap_err();
        assert_eq!(error, Errno::EWOULDBLOCK);
    }
}
