//! Waits while a pool is suspended.
//!
//! While LVM extends a pool, it suspends it, usually for some tenths of a second, sometimes for as long as its own
//! writes take on a busy disk. That is no reason to abort a run: what cannot be done meanwhile is done afterwards.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::device_error::Error;
use super::refusal::Refusal;
use crate::sys::device_mapper::{self, DeviceMapper, State};

/// How long to wait for the end of a suspension.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to retry what the kernel refuses with `EINVAL` while the pool does not appear suspended. Before the pool,
/// its thin devices are suspended, each of which waits for its writes, and this is not visible.
const PATIENCE_UNSEEN: Duration = Duration::from_secs(10);
/// The pause between two checks or attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// The state of a pool once it is not suspended, or its current state after half a minute; `None` if there is no such
/// pool.
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

/// Like [`state_once_resumed`], but also waits until nothing is about to give the pool another table: LVM loads a
/// table, suspends the pool, and resumes it. Loading another one in between breaks that.
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

/// Checks that nothing is changing the pool.
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

/// Retries what the kernel refuses with `EINVAL` while a pool is suspended, such as activating a thin device, until it
/// succeeds. For pools of others, because nobody suspends one of ours. Source: linux v6.6 `drivers/md/dm-thin.c`,
/// `thin_ctr`, `pool_presuspend`.
///
/// # Errors
///
/// [`Refusal::Suspended`] if the pool stays suspended; otherwise the error of `attempt`, if it is another one or keeps
/// occurring while the pool is not suspended.
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
        log::debug!("{error}: retrying");
        sleep(PAUSE);
    }
}
