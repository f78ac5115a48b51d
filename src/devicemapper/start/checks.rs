//! Runs the start-up checks of the devicemapper driver and of the daemon around it, on the files alone.
//!
//! Source: moby v20.10 `daemon/graphdriver/devmapper/deviceset.go`, `initDevmapper` and the functions it calls, in the
//! same order: the pool, `metadata/` with all files in it, an unfinished transaction, the device set, the base device;
//! then the image store and the containers. What depends on the running system (whether udev is there, whether the pool
//! is active) is not checked.

use super::fault::StartFault;
use super::subject::{Home, Pool};
use super::{devices, files, store};
use crate::docker::Dir;

/// Runs the checks that Docker runs when it starts. Changes nothing.
///
/// An empty list does not guarantee that Docker starts, but with a [`Refusal`](super::severity::Severity::Refusal) in
/// it, Docker certainly does not. (One exception: a symbolic link in `metadata/` is reported as a refusal, but Docker
/// follows it.)
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
