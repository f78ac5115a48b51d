//! Reads the driver's small files. Docker may have changed them since the conversion.

use serde::Deserialize;
use thiserror::Error;
use uuid::Uuid;

use super::encode::{Device, DeviceId, DeviceIdError, DeviceSet, FileSystem};

/// What is wrong with one of the driver's files.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// The text is not JSON, or not in Docker's format.
    #[error("is not as Docker writes it")]
    Form(#[from] serde_json::Error),
    /// A device number that Docker does not accept.
    #[error(transparent)]
    DeviceId(#[from] DeviceIdError),
    /// Not a UUID.
    #[error("BaseDeviceUUID: is no UUID")]
    BaseUuid(#[from] uuid::Error),
    /// A file system that this program does not know.
    #[error("BaseDeviceFilesystem: is neither ext4 nor xfs, but {0:?}")]
    FileSystem(String),
}

impl Device {
    /// Reads the contents of a device's file.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Form`], [`DecodeError::DeviceId`].
    pub fn decode(text: &[u8]) -> Result<Self, DecodeError> {
        /// Docker takes a missing member as zero.
        #[derive(Deserialize)]
        #[serde(default)]
        #[derive(Default)]
        struct Form {
            device_id: u64,
            size: u64,
            transaction_id: u64,
            initialized: bool,
            deleted: bool,
        }
        let form: Form = serde_json::from_slice(text)?;
        Ok(Self {
            id: DeviceId::new(form.device_id)?,
            size: form.size,
            transaction_id: form.transaction_id,
            initialized: form.initialized,
            deleted: form.deleted,
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
        #[derive(Deserialize)]
        struct Form {
            next_device_id: u64,
            #[serde(rename = "BaseDeviceUUID")]
            base_device_uuid: String,
            #[serde(rename = "BaseDeviceFilesystem")]
            base_device_filesystem: String,
        }
        let form: Form = serde_json::from_slice(text)?;
        let file_system = match form.base_device_filesystem.as_str() {
            "ext4" => FileSystem::Ext4,
            "xfs" => FileSystem::Xfs,
            _ => return Err(DecodeError::FileSystem(form.base_device_filesystem)),
        };
        Ok(Self {
            last_device: DeviceId::new(form.next_device_id)?,
            base_uuid: Uuid::parse_str(&form.base_device_uuid)?,
            file_system,
        })
    }
}

/// The contents of [`TRANSACTION_FILE`](super::encode::TRANSACTION_FILE). Docker writes it before it changes the pool,
/// and sets the pool's transaction id to its number afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// The transaction.
    pub id: u64,
    /// The device that it creates or deletes.
    pub device: u32,
}

impl OpenTransaction {
    /// Reads the file's contents; `None` if Docker did not write them.
    pub fn decode(text: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Form {
            open_transaction_id: u64,
            device_id: u32,
        }
        let form: Form = serde_json::from_slice(text).ok()?;
        Some(Self {
            id: form.open_transaction_id,
            device: form.device_id,
        })
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!((open.id, open.device), (9, DeviceId::MAX.get()));
        assert_eq!(OpenTransaction::decode(b"whatever"), None);
        let set = DeviceSet {
            last_device: DeviceId::MAX,
            base_uuid: Uuid::from_u128(0x1234_5678_9abc_def0),
            file_system: FileSystem::Xfs,
        };
        assert_eq!(DeviceSet::decode(&set.encode()).unwrap(), set);
    }

    #[test]
    fn what_is_not_as_docker_writes_it_is_named() {
        for (text, words) in [
            ("", "is not as Docker writes it"),
            ("[]]", "is not as Docker writes it"),
            (r#"{"device_id":0}"#, "device id 0: not between"),
            (r#"{"device_id":16777216}"#, "device id 16777216"),
            (r#"{"device_id":-1}"#, "is not as Docker writes it"),
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
        assert!(set("x", "ext4").contains("is no UUID"));
        assert!(set(&uuid, "btrfs").contains("neither ext4 nor xfs"));
    }
}
