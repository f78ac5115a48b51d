//! Checks the devices in the files and in the pool, the last transaction, and the base device.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::fault::StartFault;
use super::files::{Devices, METADATA, base};
use super::subject::Pool;
use crate::devicemapper::driver_files::{
    BASE_FILE, DEVICE_SET_FILE, DeviceRecord, DeviceSetRecord, OpenTransaction, TRANSACTION_FILE,
};
use crate::docker::{Dir, ReadError};
use crate::tree::escape;

/// Checks for files without a device in the pool and for devices without a file.
pub(super) fn check(devices: &Devices, pool: &Pool<'_>, faults: &mut Vec<StartFault>) {
    let mut named: BTreeMap<i64, &OsStr> = BTreeMap::new();
    for (name, device) in devices {
        if let Some(first) = named.insert(device.id, name) {
            faults.push(StartFault::SharedDevice {
                device: device.id,
                first: text(first),
                second: text(name),
            });
        }
        if name == BASE_FILE {
            continue; // checked separately
        }
        if device.deleted {
            faults.push(StartFault::Deleted { layer: text(name) });
        } else if !is_in(pool.devices, device) {
            faults.push(StartFault::NotInPool {
                layer: text(name),
                device: device.id,
            });
        }
    }
    let lost = pool
        .devices
        .iter()
        .filter(|id| !named.contains_key(&i64::from(**id)));
    faults.extend(lost.map(|&device| StartFault::WithoutFile { device }));
}

fn is_in(pool: &BTreeSet<u32>, device: &DeviceRecord) -> bool {
    u32::try_from(device.id).is_ok_and(|id| pool.contains(&id))
}

fn text(name: &OsStr) -> String {
    escape(name.as_bytes())
}

/// Checks the last transaction. If the pool does not show it as finished, Docker deletes its device. Docker ignores
/// errors in the file.
pub(super) fn check_transaction(
    driver: &Dir,
    devices: &Devices,
    pool: &Pool<'_>,
    faults: &mut Vec<StartFault>,
) -> Result<(), ReadError> {
    let Some(metadata) = driver.dir_if_any(METADATA)? else {
        return Ok(());
    };
    let Some(bytes) = metadata.read_if_any(TRANSACTION_FILE)? else {
        return Ok(());
    };
    let path = metadata.join(TRANSACTION_FILE);
    let transaction = OpenTransaction::decode(&bytes).unwrap_or_default();
    let open = transaction.id;
    let pool = pool.transaction_id;
    if open < pool {
        faults.push(StartFault::TransactionOld { path, open, pool });
    } else if open > pool {
        let device = transaction.device;
        let layer = devices
            .iter()
            .find(|(_, file)| file.id == device)
            .map(|(name, _)| text(name));
        faults.push(StartFault::TransactionUnfinished {
            path,
            open,
            pool,
            device,
            layer: layer.or(transaction.layer).unwrap_or_default(),
        });
    }
    Ok(())
}

/// Checks the base device and the file system on it.
pub(super) fn check_base(
    driver: &Dir,
    devices: &Devices,
    pool: &Pool<'_>,
    faults: &mut Vec<StartFault>,
) -> Result<(), ReadError> {
    let metadata = driver.dir_if_any(METADATA)?;
    let at = |name: &str| driver.join(METADATA).join(name);
    let bytes = metadata.map_or(Ok(None), |dir| dir.read_if_any(DEVICE_SET_FILE))?;
    let recorded = match bytes.as_deref().map(DeviceSetRecord::parse).transpose() {
        Ok(recorded) => recorded.unwrap_or_default(),
        Err(source) => {
            let path = at(DEVICE_SET_FILE);
            faults.push(StartFault::DeviceSet { path, source });
            return Ok(());
        }
    };
    let Some(base) = base(devices) else {
        let path = at(BASE_FILE);
        // A damaged one was already reported.
        if driver
            .dir_if_any(METADATA)?
            .map_or(Ok(None), |dir| dir.kind(BASE_FILE))?
            .is_none()
        {
            faults.push(if pool.is_given {
                StartFault::NoBaseInGivenPool { path }
            } else {
                StartFault::NoBase { path }
            });
        }
        return Ok(());
    };
    if !base.initialized || base.deleted {
        let how = if base.deleted {
            "deleted"
        } else {
            "unfinished"
        };
        let path = at(BASE_FILE);
        faults.push(StartFault::BaseReplaced { path, how });
        return Ok(());
    }
    faults.extend(check_file_system(
        base,
        &recorded,
        pool,
        at(DEVICE_SET_FILE),
    ));
    Ok(())
}

fn check_file_system(
    base: &DeviceRecord,
    recorded: &DeviceSetRecord,
    pool: &Pool<'_>,
    path: std::path::PathBuf,
) -> Option<StartFault> {
    let known = u32::try_from(base.id)
        .ok()
        .filter(|id| pool.devices.contains(id));
    let Some(device) = known else {
        return Some(StartFault::BaseNotInPool { device: base.id });
    };
    let found = match (pool.file_system_of)(device) {
        Ok(found) => found,
        Err(source) => return Some(StartFault::BaseUnreadable { device, source }),
    };
    // Docker fills in an empty UUID when it starts.
    if !recorded.base_uuid.is_empty() && recorded.base_uuid != found.uuid {
        return Some(StartFault::BaseUuid {
            path,
            found: found.uuid,
            recorded: recorded.base_uuid.clone(),
        });
    }
    let differs = !recorded.base_file_system.is_empty() && recorded.base_file_system != found.kind;
    differs.then(|| StartFault::BaseFileSystem {
        path,
        found: found.kind,
        recorded: recorded.base_file_system.clone(),
    })
}
