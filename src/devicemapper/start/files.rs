//! The driver's small files, read the way Docker reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::fault::{DeviceFileError, StartFault};
use super::subject::Pool;
use crate::devicemapper::driver_files::{
    BASE_FILE, DEVICE_SET_FILE, DeviceRecord, TRANSACTION_FILE,
};
use crate::docker::{Dir, FileKind, ReadError};

/// The driver's directory for the devices' files.
pub(super) const METADATA: &str = "metadata";

/// The deepest level of directories that is read. Docker makes none.
const MAX_DEPTH: usize = 32;

/// The largest device id that Docker takes.
const MAX_DEVICE_ID: i64 = 0xff_ffff;

/// Reads a device's file as a daemon does.
fn parse(text: &[u8]) -> Result<DeviceRecord, DeviceFileError> {
    let record = DeviceRecord::parse(text)?;
    // Docker accepts negative numbers and crashes when it looks them up.
    if !(0..=MAX_DEVICE_ID).contains(&record.id) {
        return Err(DeviceFileError::Id(record.id));
    }
    Ok(record)
}

/// The device files by name.
pub(super) type Devices = BTreeMap<OsString, DeviceRecord>;

/// Reads every file in `metadata/` that Docker takes as a device's.
///
/// Walks through all directories there, but looks up each name in `metadata/` itself.
pub(super) fn read_devices(
    driver: &Dir,
    faults: &mut Vec<StartFault>,
) -> Result<Devices, ReadError> {
    if let Some(loops) = driver.dir_if_any("devicemapper")?
        && loops.kind("json")?.is_some()
    {
        let path = loops.join("json");
        faults.push(StartFault::OldDevices { path });
    }
    let mut devices = Devices::new();
    let Some(metadata) = driver.dir_if_any(METADATA)? else {
        return Ok(devices);
    };
    let mut names = BTreeSet::new();
    collect(&metadata, 0, (&mut names, faults))?;
    for name in names {
        let parsed = metadata
            .read(&name)
            .map_err(DeviceFileError::from)
            .and_then(|text| parse(&text));
        match parsed {
            Ok(device) => {
                devices.insert(name, device);
            }
            Err(source) => faults.push(StartFault::NotADevice {
                path: metadata.join(name),
                source,
            }),
        }
    }
    Ok(devices)
}

fn collect(
    dir: &Dir,
    depth: usize,
    (names, faults): (&mut BTreeSet<OsString>, &mut Vec<StartFault>),
) -> Result<(), ReadError> {
    for entry in dir.list()? {
        if entry.kind == FileKind::Directory {
            if depth == MAX_DEPTH {
                faults.push(StartFault::NotADevice {
                    path: dir.join(&entry.name),
                    source: DeviceFileError::TooDeep,
                });
                continue;
            }
            collect(&dir.dir(&entry.name)?, depth + 1, (names, faults))?;
        } else if is_device_name(&entry.name) {
            names.insert(entry.name);
        }
    }
    Ok(())
}

fn is_device_name(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !bytes.starts_with(b".")
        && !bytes.ends_with(b".migrated")
        && name != DEVICE_SET_FILE
        && name != TRANSACTION_FILE
}

/// The base device's file.
pub(super) fn base(devices: &Devices) -> Option<&DeviceRecord> {
    devices.get(OsStr::new(BASE_FILE))
}

/// Checks the pool's two files.
pub(super) fn check_loop_files(driver: &Dir, pool: &Pool<'_>, faults: &mut Vec<StartFault>) {
    let Some(sizes) = pool.files else {
        return;
    };
    let dir = driver.join("devicemapper");
    for (name, needed) in [("data", sizes.data.0), ("metadata", sizes.metadata.0)] {
        let path = dir.join(name);
        // Docker follows symbolic links here: operators use them to move the files to other disks.
        match path.metadata() {
            Err(_) => faults.push(StartFault::FileMissing { path }),
            Ok(meta) if meta.is_file() && meta.len() < needed => {
                let size = meta.len();
                faults.push(StartFault::FileTooSmall { path, size, needed });
            }
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_of_24_bits_are_a_device_s() {
        for (id, is_one) in [
            (-1, false),
            (0, true),
            (16_777_215, true),
            (16_777_216, false),
        ] {
            let text = format!(r#"{{"device_id":{id}}}"#);
            assert_eq!(parse(text.as_bytes()).is_ok(), is_one, "{text}");
        }
    }
}
