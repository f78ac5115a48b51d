//! Outlasting the moments in which a pool is suspended.
//!
//! While LVM extends a pool it suspends it, mostly for some tenths of a second, now and then for as long as its own writes
//! take on a busy disk. That is no reason to give up a run: what cannot be done meanwhile is done afterwards.

use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;

use crate::sys::device_mapper::{DeviceMapper, Error, State};

/// Looks at a pool that is suspended, until one no longer waits: for half a minute.
const LOOKS: u32 = 300;
/// Pause between two of them.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Attempts at what the kernel refuses with `EINVAL`. It may mean something else, and then comes again at once.
const ATTEMPTS: u32 = 10;
/// Pause between two of them if the pool is not suspended, or not any more.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(20);

/// A pool's state once it is not suspended, or as it is when it has been for half a minute; `None` if there is no such pool.
///
/// # Errors
///
/// Those of [`DeviceMapper::state`].
pub(super) fn state_once_resumed(dm: &DeviceMapper, pool: &str) -> Result<Option<State>, Error> {
    state_once_not(dm, pool, |state| state.suspended)
}

/// The same, once nobody is about to give the pool another table either: LVM loads it, suspends the pool, and resumes it.
/// Whoever loads one in between spoils that.
///
/// # Errors
///
/// Those of [`DeviceMapper::state`].
pub(super) fn state_once_left_alone(dm: &DeviceMapper, pool: &str) -> Result<Option<State>, Error> {
    state_once_not(dm, pool, |state| state.suspended || state.loaded)
}

fn state_once_not(
    dm: &DeviceMapper,
    pool: &str,
    is_busy: impl Fn(&State) -> bool,
) -> Result<Option<State>, Error> {
    for look in 1.. {
        match dm.state(pool)? {
            Some(state) if is_busy(&state) && look < LOOKS => {
                if look == 1 {
                    log::info!("{pool}: something else is changing it; waiting for that to end");
                }
                sleep(LOOK_PAUSE);
            }
            state => return Ok(state),
        }
    }
    Ok(None)
}

/// Does what the kernel refuses with `EINVAL` while a pool is suspended, such as to activate a thin device: again, until it
/// goes through. Source: linux v6.6 `drivers/md/dm-thin.c`, `thin_ctr`.
///
/// # Errors
///
/// What `attempt` says, when it is something else or comes again while the pool is not suspended.
pub(crate) fn outlast_suspension<T>(
    dm: &DeviceMapper,
    pool: &str,
    mut attempt: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(error) if error.errno() == Some(Errno::EINVAL) => {
                log::debug!("{error}: once more");
                state_once_resumed(dm, pool)?;
                sleep(ATTEMPT_PAUSE);
            }
            outcome => return outcome,
        }
    }
    attempt()
}
