//! Reads the driver's small files of a finished root, without trusting them: which devices there are, and how large
//! they are.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::driver_files::{
    BASE_FILE, DEVICE_SET_FILE, DecodeError, Device, DeviceSet, OpenTransaction, TRANSACTION_FILE,
};
use crate::docker::{CacheId, Dir, FileKind, ReadError};
use crate::tree::shown;

/// Their directory in the driver's home.
const DIRECTORY: &str = "metadata";

/// The size in bytes of the largest file that is read. Docker's are below 300 bytes.
const MAX_BYTES: u64 = 64 << 10;

/// A fault of one file. The other files are still read.
#[derive(Debug, Error)]
pub enum DeviceFileFault {
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// Docker did not write the file's contents.
    #[error("{}", shown(path))]
    Contents {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: DecodeError,
    },
    /// Docker does not use such a name, but takes the file as a device's.
    #[error("{}: is not the name of a layer", shown(path))]
    Name {
        /// The file.
        path: PathBuf,
    },
}

/// The devices according to the files in a driver's home.
#[derive(Debug, Default)]
pub struct DeviceFiles {
    /// The file system's kind and the base device's UUID; Docker can start without them.
    pub set: Option<DeviceSet>,
    /// The base device.
    pub base: Option<Device>,
    /// The layers' devices.
    pub layers: BTreeMap<CacheId, Device>,
    /// The transaction that was started last.
    pub open: Option<OpenTransaction>,
    /// The faults found.
    pub faults: Vec<DeviceFileFault>,
}

impl DeviceFiles {
    /// Reads the files from a driver's home, the directory `devicemapper`.
    ///
    /// # Errors
    ///
    /// The directory itself cannot be read.
    pub fn read(home: &Path) -> Result<Self, ReadError> {
        let directory = Dir::open(home)?.dir(DIRECTORY)?;
        let mut files = Self::default();
        for listed in directory.list()? {
            if listed.name == TRANSACTION_FILE {
                // Docker tolerates any content of this file.
                let text = read(&directory, &listed.name).unwrap_or_default();
                files.open = OpenTransaction::decode(&text);
            }
            if listed.kind == FileKind::Directory || is_skipped(&listed.name) {
                continue;
            }
            if let Err(fault) = files.add(&directory, &listed.name) {
                files.faults.push(fault);
            }
        }
        Ok(files)
    }

    fn add(&mut self, directory: &Dir, name: &OsStr) -> Result<(), DeviceFileFault> {
        let path = directory.join(name);
        let text = read(directory, name)?;
        let contents = |source| DeviceFileFault::Contents {
            path: path.clone(),
            source,
        };
        if name == DEVICE_SET_FILE {
            self.set = Some(DeviceSet::decode(&text).map_err(contents)?);
            return Ok(());
        }
        let device = Device::decode(&text).map_err(contents)?;
        if name == BASE_FILE {
            self.base = Some(device);
            return Ok(());
        }
        match CacheId::parse(name.as_encoded_bytes()) {
            Ok(id) => drop(self.layers.insert(id, device)),
            Err(_) => return Err(DeviceFileFault::Name { path }),
        }
        Ok(())
    }
}

/// Files that Docker skips too. Source: moby v20.10 `daemon/graphdriver/devmapper/deviceset.go`,
/// `deviceFileWalkFunction`.
fn is_skipped(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    bytes.starts_with(b".") || bytes.ends_with(b".migrated") || name == TRANSACTION_FILE
}

fn read(directory: &Dir, name: &OsStr) -> Result<Vec<u8>, ReadError> {
    let mut text = Vec::new();
    let read = directory.file(name)?.take(MAX_BYTES).read_to_end(&mut text);
    match read {
        Ok(_) => Ok(text),
        Err(source) => Err(ReadError::Io {
            op: "read",
            path: directory.join(name),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::devicemapper::driver_files::{DeviceId, FileSystem};
    use crate::units::Bytes;

    #[test]
    fn devices_are_found_and_what_is_none_is_a_fault() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("metadata");
        fs::create_dir(&dir).unwrap();
        let device = Device::layer(DeviceId::new(7).unwrap(), Bytes::gib(10), 9);
        let set = DeviceSet {
            last_device: DeviceId::new(7).unwrap(),
            base_uuid: uuid::Uuid::nil(),
            file_system: FileSystem::Ext4,
        };
        fs::write(dir.join("base"), Device::base(Bytes::gib(10), 1).encode()).unwrap();
        fs::write(dir.join("deviceset-metadata"), set.encode()).unwrap();
        fs::write(dir.join("transaction-metadata"), "whatever").unwrap();
        fs::write(dir.join(".tmp123"), "half").unwrap();
        fs::write(dir.join("a".repeat(64)), device.encode()).unwrap();
        fs::write(dir.join("b".repeat(64)), "{").unwrap();
        fs::write(dir.join("not a layer"), device.encode()).unwrap();
        fs::write(dir.join("c".repeat(64)), vec![b' '; 1 << 20]).unwrap();
        std::os::unix::fs::symlink("base", dir.join("d".repeat(64))).unwrap();

        let files = DeviceFiles::read(home.path()).unwrap();
        assert_eq!(files.set, Some(set));
        assert_eq!(files.base, Some(Device::base(Bytes::gib(10), 1)));
        let layers: Vec<_> = files.layers.values().collect();
        assert_eq!(layers, [&device]);
        assert_eq!(files.open, None);
        let faults: Vec<_> = files.faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), 4, "{faults:?}");
        for (fault, words) in faults
            .iter()
            .zip(["/bbb", "/ccc", "symbolic link", "not a layer"])
        {
            assert!(fault.contains(words), "{faults:?}");
        }
    }
}
