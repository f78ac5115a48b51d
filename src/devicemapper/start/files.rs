//! The driver's small files, read the way Docker reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::fault::{DeviceFileError, StartFault};
use super::subject::Pool;
use crate::devicemapper::driver_files::{BASE_FILE, DEVICE_SET_FILE, TRANSACTION_FILE};
use crate::docker::{Dir, FileKind, JsonError, Object, ReadError};

/// The driver's directory for the devices' files.
pub(super) const METADATA: &str = "metadata";

/// The deepest level of directories that is read. Docker makes none.
const MAX_DEPTH: usize = 32;

/// The largest device id that Docker takes.
const MAX_DEVICE_ID: i64 = 0xff_ffff;

/// A device's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DeviceFile {
    pub(super) id: i64,
    pub(super) initialized: bool,
    pub(super) deleted: bool,
}

impl DeviceFile {
    /// Parses a file as Go does: a member that is absent or `null` is zero; a value of another type is an error.
    fn parse(text: &[u8]) -> Result<Self, DeviceFileError> {
        let object = Object::parse(text)?;
        unsigned(&object, "size")?;
        unsigned(&object, "transaction_id")?;
        let id = signed(&object, "device_id")?.unwrap_or(0);
        // Docker accepts negative numbers and crashes when it looks them up.
        if !(0..=MAX_DEVICE_ID).contains(&id) {
            return Err(DeviceFileError::Id(id));
        }
        Ok(Self {
            id,
            initialized: truth(&object, "initialized")?.unwrap_or(false),
            deleted: truth(&object, "deleted")?.unwrap_or(false),
        })
    }
}

/// The device files by name.
pub(super) type Devices = BTreeMap<OsString, DeviceFile>;

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
            .and_then(|text| DeviceFile::parse(&text));
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
pub(super) fn base(devices: &Devices) -> Option<&DeviceFile> {
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

/// Checks every value of the key for its type. The last value counts.
fn every<T>(
    object: &Object<'_>,
    key: &'static str,
    (expected, parse): (&'static str, impl Fn(&[u8]) -> Option<T>),
) -> Result<Option<T>, JsonError> {
    let mut last = None;
    for value in object.all(key) {
        last = Some(parse(value).ok_or(JsonError::WrongType { key, expected })?);
    }
    Ok(last)
}

fn number<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    // A JSON number has no plus sign, but `parse` would accept one.
    std::str::from_utf8(value).ok()?.parse().ok()
}

pub(super) fn signed(object: &Object<'_>, key: &'static str) -> Result<Option<i64>, JsonError> {
    every(object, key, ("a whole number", number))
}

pub(super) fn unsigned(object: &Object<'_>, key: &'static str) -> Result<Option<u64>, JsonError> {
    every(object, key, ("a whole number from 0", number))
}

fn truth(object: &Object<'_>, key: &'static str) -> Result<Option<bool>, JsonError> {
    let parse = |value: &[u8]| match value {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    };
    every(object, key, ("true or false", parse))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_device_file_is_read_as_go_reads_it() {
        for (text, id) in [
            (
                r#"{"device_id":2,"size":1,"transaction_id":2,"initialized":false}"#,
                2,
            ),
            ("{}", 0),
            (r#"{"DEVICE_ID":3,"device_id":null,"other":[1]}"#, 3),
            (
                r#"{"device_id":16777215,"size":18446744073709551615}"#,
                16_777_215,
            ),
        ] {
            assert_eq!(DeviceFile::parse(text.as_bytes()).unwrap().id, id, "{text}");
        }
        for text in [
            "",
            "null",
            "[]",
            "device 5",
            r#"{"device_id":16777216}"#,
            r#"{"device_id":-1}"#,
            r#"{"device_id":1.0}"#,
            r#"{"device_id":"1"}"#,
            r#"{"size":-1}"#,
            r#"{"deleted":1}"#,
            r#"{"device_id":"1","device_id":1}"#,
        ] {
            assert!(DeviceFile::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = DeviceFile::parse(&text);
        }
    }
}
