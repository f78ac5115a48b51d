//! What the devicemapper driver and the daemon around it check when they start, tried on the files alone.
//!
//! Source: moby v20.10 `daemon/graphdriver/devmapper/deviceset.go`, `initDevmapper` and what it calls, in its order:
//! the pool, `metadata/` with all files in it, an unfinished transaction, the device set, the base device; then the image
//! store and the containers. What only the running system can tell (is udev there, is the pool active) is not tried.

use super::fault::StartFault;
use super::subject::{Home, Pool};
use super::{devices, files, store};
use crate::docker::Dir;

/// Tries what Docker tries when it starts. Changes nothing.
///
/// An empty list does not promise that Docker starts, but a [`Refusal`](super::severity::Severity::Refusal) in it does promise that it
/// does not. (One exception: a symbolic link in `metadata/` is told as a refusal, and Docker follows it.)
pub fn start_checks(home: &Home, pool: &Pool<'_>) -> Vec<StartFault> {
    let mut faults = Vec::new();
    if let Err(error) = check(home, pool, &mut faults) {
        faults.push(StartFault::Unreadable { source: error });
    }
    faults.sort_by_key(StartFault::severity);
    faults
}

fn check(
    home: &Home,
    pool: &Pool<'_>,
    faults: &mut Vec<StartFault>,
) -> Result<(), crate::docker::ReadError> {
    if home.driver.is_symlink() {
        let path = home.driver.clone();
        faults.push(StartFault::HomeIsLink { path });
    }
    let driver = Dir::open(&home.driver)?;
    files::check_loop_files(&driver, pool, faults);
    let found = files::read_devices(&driver, faults)?;
    devices::check(&found, pool, faults);
    devices::check_transaction(&driver, &found, pool, faults)?;
    devices::check_base(&driver, &found, pool, faults)?;
    store::check(home, &found, faults)
}
