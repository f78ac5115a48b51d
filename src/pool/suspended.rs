//! Outlasting the moments in which a pool is suspended.
//!
//! While LVM extends a pool it suspends it, mostly for some tenths of a second, now and then for as long as its own writes
//! take on a busy disk. That is no reason to give up a run: what cannot be done meanwhile is done afterwards.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::device_error::Error;
use super::refusal::Refusal;
use crate::sys::device_mapper::{self, DeviceMapper, State};

/// How long the end of a suspension is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long what the kernel refuses with `EINVAL` is tried while the pool is not seen to be suspended. While the pool's thin
/// devices are being suspended before it, each of which waits for its writes, there is nothing to be seen.
const PATIENCE_UNSEEN: Duration = Duration::from_secs(10);
/// Pause between two looks or attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// A pool's state once it is not suspended, or as it is when it has been for half a minute; `None` if there is no such pool.
///
/// # Errors
///
/// Those of [`DeviceMapper::state`].
pub(super) fn state_once_resumed(
    dm: &DeviceMapper,
    pool: &str,
) -> Result<Option<State>, device_mapper::Error> {
    state_once_not(dm, pool, |state| state.suspended)
}

/// The same, once nobody is about to give the pool another table either: LVM loads it, suspends the pool, and resumes it.
/// Whoever loads one in between spoils that.
///
/// # Errors
///
/// Those of [`DeviceMapper::state`].
pub(super) fn state_once_left_alone(
    dm: &DeviceMapper,
    pool: &str,
) -> Result<Option<State>, device_mapper::Error> {
    state_once_not(dm, pool, is_being_changed)
}

fn is_being_changed(state: &State) -> bool {
    state.suspended || state.loaded
}

fn state_once_not(
    dm: &DeviceMapper,
    pool: &str,
    is_busy: impl Fn(&State) -> bool,
) -> Result<Option<State>, device_mapper::Error> {
    let began = Instant::now();
    let mut told = false;
    loop {
        match dm.state(pool)? {
            Some(state) if is_busy(&state) && began.elapsed() < PATIENCE => {
                if !std::mem::replace(&mut told, true) {
                    log::info!("{pool}: something else is changing it; waiting for that to end");
                }
                sleep(PAUSE);
            }
            state => return Ok(state),
        }
    }
}

/// Sees to it that nobody is changing the pool.
///
/// # Errors
///
/// [`Refusal::Suspended`], [`Refusal::Loaded`].
pub(super) fn expect_left_alone(state: Option<&State>) -> Result<(), Error> {
    match state {
        Some(state) if state.suspended => Err(refused(state, |name| Refusal::Suspended { name })),
        Some(state) if state.loaded => Err(refused(state, |name| Refusal::Loaded { name })),
        _ => Ok(()),
    }
}

fn refused(state: &State, why: impl Fn(String) -> Refusal) -> Error {
    let path = Path::new("/dev/mapper").join(&state.name);
    Error::refused(&path, why(state.name.clone()))
}

/// Does what the kernel refuses with `EINVAL` while a pool is suspended, such as to activate a thin device: again, until it
/// goes through. For pools of others: nobody suspends one of ours. Source: linux v6.6 `drivers/md/dm-thin.c`, `thin_ctr`,
/// `pool_presuspend`.
///
/// # Errors
///
/// [`Refusal::Suspended`] when the pool stays suspended; else what `attempt` says, when it is something else or comes
/// again and again while the pool is not suspended.
pub(crate) fn outlast_suspension<T>(
    dm: &DeviceMapper,
    pool: &str,
    mut attempt: impl FnMut() -> Result<T, device_mapper::Error>,
) -> Result<T, Error> {
    let began = Instant::now();
    let mut seen = began;
    loop {
        let error = match attempt() {
            Err(error) if error.errno() == Some(Errno::EINVAL) => error,
            outcome => return Ok(outcome?),
        };
        let state = dm.state(pool)?;
        if state.as_ref().is_some_and(is_being_changed) {
            seen = Instant::now();
        }
        if began.elapsed() >= PATIENCE || seen.elapsed() >= PATIENCE_UNSEEN {
            expect_left_alone(state.as_ref())?;
            return Err(error.into());
        }
        log::debug!("{error}: once more");
        sleep(PAUSE);
    }
}
