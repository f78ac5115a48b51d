//! Reads the driver's small files. Docker may have changed them since the conversion.
//!
//! There is one parser for each file, and it reads as Docker does: Go's decoder takes a member that is absent or `null`
//! as zero, ignores the case of names, and fails at a value of another type. The records hold what was read; [`Device`]
//! and [`DeviceSet`] are records that make sense.

use std::str::FromStr;

use thiserror::Error;
use uuid::Uuid;

use super::encode::{Device, DeviceId, DeviceIdError, DeviceSet, FileSystem};
use crate::docker::{JsonError, Object};

/// What is wrong with one of the driver's files.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// The text is not JSON, or not in Docker's format.
    #[error("is not in the form that Docker writes")]
    Form(#[from] JsonError),
    /// A device number that Docker does not accept.
    #[error(transparent)]
    DeviceId(#[from] DeviceIdError),
    /// Not a UUID.
    #[error("BaseDeviceUUID: is not a UUID")]
    BaseUuid(#[from] uuid::Error),
    /// A file system that this program does not know.
    #[error("BaseDeviceFilesystem: is neither ext4 nor xfs, but {0:?}")]
    FileSystem(String),
}

/// A device's file as it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceRecord {
    /// The device's id; nothing says that it is one.
    pub id: i64,
    /// Its size in bytes.
    pub size: u64,
    /// The transaction that created it.
    pub transaction_id: u64,
    /// Whether its file system was made.
    pub initialized: bool,
    /// Whether it is to be deleted.
    pub deleted: bool,
}

impl DeviceRecord {
    /// Reads a device's file.
    ///
    /// # Errors
    ///
    /// Docker cannot read it either.
    pub fn parse(text: &[u8]) -> Result<Self, JsonError> {
        let object = Object::parse(text)?;
        Ok(Self {
            id: signed(&object, "device_id")?.unwrap_or(0),
            size: unsigned(&object, "size")?.unwrap_or(0),
            transaction_id: unsigned(&object, "transaction_id")?.unwrap_or(0),
            initialized: truth(&object, "initialized")?.unwrap_or(false),
            deleted: truth(&object, "deleted")?.unwrap_or(false),
        })
    }
}

impl Device {
    /// Reads the contents of a device's file.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Form`], [`DecodeError::DeviceId`].
    pub fn decode(text: &[u8]) -> Result<Self, DecodeError> {
        let record = DeviceRecord::parse(text)?;
        Ok(Self {
            id: device_id("device_id", record.id)?,
            size: record.size,
            transaction_id: record.transaction_id,
            initialized: record.initialized,
            deleted: record.deleted,
        })
    }
}

/// [`DEVICE_SET_FILE`](super::encode::DEVICE_SET_FILE) as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceSetRecord {
    /// The id of the device that was created last.
    pub last_device: i64,
    /// The UUID of the base device's file system; empty if it was not recorded.
    pub base_uuid: String,
    /// The kind of that file system; empty if it was not recorded.
    pub base_file_system: String,
}

impl DeviceSetRecord {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// Docker cannot read it either.
    pub fn parse(text: &[u8]) -> Result<Self, JsonError> {
        let object = Object::parse(text)?;
        Ok(Self {
            last_device: signed(&object, "next_device_id")?.unwrap_or(0),
            base_uuid: object.string("BaseDeviceUUID")?.unwrap_or_default(),
            base_file_system: object.string("BaseDeviceFilesystem")?.unwrap_or_default(),
        })
    }
}

impl DeviceSet {
    /// Reads the contents of [`DEVICE_SET_FILE`](super::encode::DEVICE_SET_FILE).
    ///
    /// # Errors
    ///
    /// Any [`DecodeError`].
    pub fn decode(text: &[u8]) -> Result<Self, DecodeError> {
        let record = DeviceSetRecord::parse(text)?;
        let file_system = match record.base_file_system.as_str() {
            "ext4" => FileSystem::Ext4,
            "xfs" => FileSystem::Xfs,
            _ => return Err(DecodeError::FileSystem(record.base_file_system)),
        };
        Ok(Self {
            last_device: device_id("next_device_id", record.last_device)?,
            base_uuid: Uuid::parse_str(&record.base_uuid)?,
            file_system,
        })
    }
}

/// The contents of [`TRANSACTION_FILE`](super::encode::TRANSACTION_FILE). Docker writes it before it changes the pool,
/// and sets the pool's transaction id to its number afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenTransaction {
    /// The transaction.
    pub id: u64,
    /// The device that it creates or deletes.
    pub device: i64,
    /// The layer of that device.
    pub layer: Option<String>,
}

impl OpenTransaction {
    /// Reads the file's contents; `None` if they are not an object. Docker ignores errors in this file, so a member that
    /// cannot be read is zero.
    pub fn decode(text: &[u8]) -> Option<Self> {
        let object = Object::parse(text).ok()?;
        let number = |key| signed(&object, key).ok().flatten().unwrap_or(0);
        let id = unsigned(&object, "open_transaction_id").ok().flatten();
        Some(Self {
            id: id.unwrap_or(0),
            device: number("device_id"),
            layer: object.string("device_hash").ok().flatten(),
        })
    }
}

fn device_id(key: &'static str, id: i64) -> Result<DeviceId, DecodeError> {
    let id = u64::try_from(id).map_err(|_| JsonError::WrongType {
        key,
        expected: "a whole number from 0",
    })?;
    Ok(DeviceId::new(id)?)
}

/// Checks every value of the key for its type. The last value counts.
fn every<T>(
    object: &Object<'_>,
    key: &'static str,
    expected: &'static str,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<Option<T>, JsonError> {
    let mut last = None;
    for value in object.all(key) {
        last = Some(parse(value).ok_or(JsonError::WrongType { key, expected })?);
    }
    Ok(last)
}

fn number<T: FromStr>(value: &[u8]) -> Option<T> {
    // A JSON number has no plus sign, but `parse` would accept one.
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn signed(object: &Object<'_>, key: &'static str) -> Result<Option<i64>, JsonError> {
    every(object, key, "a whole number", number)
}

fn unsigned(object: &Object<'_>, key: &'static str) -> Result<Option<u64>, JsonError> {
    every(object, key, "a whole number from 0", number)
}

fn truth(object: &Object<'_>, key: &'static str) -> Result<Option<bool>, JsonError> {
    every(object, key, "true or false", |value| match value {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::devicemapper::driver_files::encode::Transaction;
    use crate::units::Bytes;

    #[test]
    fn what_was_written_is_read_back() {
        let device = Device::layer(DeviceId::new(7).unwrap(), Bytes::gib(10), 9);
        assert_eq!(Device::decode(&device.encode()).unwrap(), device);
        let base = Device::base(Bytes::gib(20), 1);
        assert_eq!(Device::decode(&base.encode()).unwrap(), base);
        let transaction = Transaction {
            id: 9,
            layer: None,
            device: DeviceId::MAX,
        };
        let open = OpenTransaction::decode(&transaction.encode()).unwrap();
        assert_eq!((open.id, open.device), (9, DeviceId::MAX.get().into()));
        assert_eq!(OpenTransaction::decode(b"whatever"), None);
        let set = DeviceSet {
            last_device: DeviceId::MAX,
            base_uuid: Uuid::from_u128(0x1234_5678_9abc_def0),
            file_system: FileSystem::Xfs,
        };
        assert_eq!(DeviceSet::decode(&set.encode()).unwrap(), set);
    }

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
            (r#"{"device_id":-1}"#, -1),
        ] {
            let record = DeviceRecord::parse(text.as_bytes()).unwrap();
            assert_eq!(record.id, id, "{text}");
        }
        for text in [
            "",
            "null",
            "[]",
            "device 5",
            r#"{"device_id":1.0}"#,
            r#"{"device_id":"1"}"#,
            r#"{"size":-1}"#,
            r#"{"deleted":1}"#,
            r#"{"device_id":"1","device_id":1}"#,
        ] {
            assert!(DeviceRecord::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = DeviceRecord::parse(&text);
            let _ = DeviceSetRecord::parse(&text);
            let _ = OpenTransaction::decode(&text);
        }
    }

    #[test]
    fn what_is_not_as_docker_writes_it_is_named() {
        for (text, words) in [
            ("", "is not in the form that Docker writes"),
            ("[]]", "is not in the form that Docker writes"),
            (r#"{"device_id":0}"#, "device id 0: is not between"),
            (r#"{"device_id":16777216}"#, "device id 16777216"),
            (
                r#"{"device_id":-1}"#,
                "is not in the form that Docker writes",
            ),
        ] {
            let error = Device::decode(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        let set = |uuid, kind| {
            let text = format!(
                r#"{{"next_device_id":3,"BaseDeviceUUID":"{uuid}","BaseDeviceFilesystem":"{kind}"}}"#
            );
            DeviceSet::decode(text.as_bytes()).unwrap_err().to_string()
        };
        let uuid = Uuid::nil().to_string();
        assert!(set("x", "ext4").contains("is not a UUID"));
        assert!(set(&uuid, "btrfs").contains("neither ext4 nor xfs"));
    }
}
