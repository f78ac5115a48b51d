//! The small files that Docker's devicemapper driver keeps beside its pool, and its names for devices.
//!
//! Everything here is pure: it determines which bytes belong in which file, and writes nothing.
//! Source: moby v20.10 `daemon/graphdriver/devmapper/deviceset.go`.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::docker::CacheId;
use crate::tree::shown;
use crate::units::Bytes;

/// The base device's file in `devicemapper/metadata`; the files of other devices are named after their [`CacheId`].
pub const BASE_FILE: &str = "base";

/// The file in `devicemapper/metadata` with the last device id and the base device's UUID.
pub const DEVICE_SET_FILE: &str = "deviceset-metadata";

/// The file in `devicemapper/metadata` with the last transaction that was started.
pub const TRANSACTION_FILE: &str = "transaction-metadata";

/// Docker's default for `dm.basesize`: the size of a device.
pub const DEFAULT_BASE_SIZE: Bytes = Bytes::gib(10);

/// Docker's default for `dm.blocksize`: the size of a pool's data block in bytes.
pub const DEFAULT_BLOCK_SIZE: Bytes = Bytes(64 * 1024);

/// Docker's size of the pool's data file. It grows a smaller file to this size.
pub const DEFAULT_DATA_SIZE: Bytes = Bytes::gib(100);

/// Docker's size of the pool's metadata file. It grows a smaller file to this size.
pub const DEFAULT_METADATA_SIZE: Bytes = Bytes::gib(2);

/// A thin device's id as Docker accepts it: 1 to 16777215. With a larger id in any file, the daemon does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DeviceId(u32);

/// The error for a number that is not a device id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("device id {0}: is not between 1 and 16777215")]
pub struct DeviceIdError(pub u64);

impl DeviceId {
    /// The base device's id.
    pub const BASE: Self = Self(1);

    /// The largest id: ids have 24 bits.
    pub const MAX: Self = Self(0xff_ffff);

    /// Checks an id.
    ///
    /// # Errors
    /// The number is 0 or needs more than 24 bits.
    pub fn new(id: u64) -> Result<Self, DeviceIdError> {
        match u32::try_from(id) {
            Ok(id) if (Self::BASE.0..=Self::MAX.0).contains(&id) => Ok(Self(id)),
            _ => Err(DeviceIdError(id)),
        }
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// The contents of a device's file in `devicemapper/metadata`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    #[serde(rename = "device_id")]
    pub(super) id: DeviceId,
    pub(super) size: u64,
    pub(super) transaction_id: u64,
    pub(super) initialized: bool,
    pub(super) deleted: bool,
}

impl Device {
    /// The base device: id 1, and the only one that is ever marked as initialized.
    pub fn base(size: Bytes, transaction_id: u64) -> Self {
        Self {
            initialized: true,
            ..Self::layer(DeviceId::BASE, size, transaction_id)
        }
    }

    /// A layer's device with `size` bytes and the transaction that made it. If the transaction is later than the
    /// pool's, Docker up to 1.3 considers the device lost.
    pub fn layer(id: DeviceId, size: Bytes, transaction_id: u64) -> Self {
        Self {
            id,
            size: size.0,
            transaction_id,
            initialized: false,
            deleted: false,
        }
    }

    /// Its id in the pool.
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// Its size.
    pub fn size(&self) -> Bytes {
        Bytes(self.size)
    }

    /// Whether Docker has removed it but not yet deleted it from the pool.
    pub fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// The file's bytes: compact, without newline.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}

/// The kind of file system on the devices, as the driver spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileSystem {
    /// ext4.
    Ext4,
    /// xfs.
    Xfs,
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        })
    }
}

/// The contents of [`DEVICE_SET_FILE`]. Docker can start without the file, but then it does not know the file system's
/// kind during its first run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceSet {
    /// The last id that was assigned.
    pub last_device: DeviceId,
    /// The base device's file system UUID. The daemon refuses to start if `blkid` prints another one.
    pub base_uuid: Uuid,
    /// The file system's kind.
    pub file_system: FileSystem,
}

impl DeviceSet {
    /// The file's bytes: compact, without newline, the UUID in lower case as `blkid` prints it.
    pub fn encode(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Form {
            next_device_id: DeviceId,
            #[serde(rename = "BaseDeviceUUID")]
            base_device_uuid: String,
            #[serde(rename = "BaseDeviceFilesystem")]
            base_device_filesystem: FileSystem,
        }
        encode(&Form {
            next_device_id: self.last_device,
            base_device_uuid: self.base_uuid.hyphenated().to_string(),
            base_device_filesystem: self.file_system,
        })
    }
}

/// The contents of [`TRANSACTION_FILE`].
///
/// At its start, Docker compares this number with the pool's. If it is *larger*, Docker deletes the device that the
/// file names, without asking. So the file must be written after the pool's own number, and must equal it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction<'a> {
    /// The pool's transaction id.
    pub id: u64,
    /// The layer made last; `None` if there is only the base device.
    pub layer: Option<&'a CacheId>,
    /// Its device.
    pub device: DeviceId,
}

impl Transaction<'_> {
    /// The file's bytes: compact, without newline.
    pub fn encode(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Form<'a> {
            open_transaction_id: u64,
            device_hash: &'a str,
            device_id: DeviceId,
        }
        encode(&Form {
            open_transaction_id: self.id,
            device_hash: self.layer.map_or("", CacheId::as_str),
            device_id: self.device,
        })
    }
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("numbers, booleans and strings can always be written")
}

/// Docker's name for the pool in loop mode, and the prefix of its devices' names. Both are made of the device number
/// and the inode number of the directory `devicemapper`: renaming the directory keeps them, copying it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolName {
    major: u64,
    minor: u64,
    inode: u64,
}

impl PoolName {
    /// The name for a directory with these `st_dev` and `st_ino`, symbolic links followed.
    pub fn new(dev: u64, inode: u64) -> Self {
        let major = dev >> 8 & 0xfff;
        let minor = dev & 0xff | dev >> 12 & 0xf_ff00;
        Self {
            major,
            minor,
            inode,
        }
    }

    /// The prefix of the pool's name and of the names of all its devices.
    pub fn prefix(&self) -> String {
        format!("docker-{}:{}-{}-", self.major, self.minor, self.inode)
    }

    /// The device-mapper name of the base device.
    pub fn base(&self) -> String {
        format!("{}base", self.prefix())
    }

    /// The device-mapper name of a layer's device.
    pub fn device(&self, layer: &CacheId) -> String {
        format!("{}{layer}", self.prefix())
    }
}

/// The pool's device-mapper name.
impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}pool", self.prefix())
    }
}

/// The settings that daemon.json needs for the driver and these options.
pub fn daemon_settings(storage_opts: &[String]) -> String {
    if storage_opts.is_empty() {
        return r#"{"storage-driver": "devicemapper"}"#.to_owned();
    }
    let options = serde_json::to_string(storage_opts).expect("strings can always be written");
    format!(r#"{{"storage-driver": "devicemapper", "storage-opts": {options}}}"#)
}

/// Instructions for the operator about Docker's settings after the conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetupHint<'a> {
    /// The file that holds Docker's settings; `None`: not known.
    pub settings_file: Option<&'a Path>,
    /// The size of the devices that the conversion made.
    pub base_size: Bytes,
    /// The options that name the pool, such as `dm.thinpooldev=/dev/mapper/pool`; empty for loop files.
    pub storage_opts: &'a [String],
}

impl fmt::Display for SetupHint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.settings_file {
            Some(file) => writeln!(
                f,
                "Docker 1.10 and later: put this in {} (older: -s devicemapper):",
                shown(file)
            )?,
            None => writeln!(
                f,
                "Docker needs these settings where it is started, in the file or as flags (before 1.10: -s devicemapper):"
            )?,
        }
        writeln!(f, "  {}", daemon_settings(self.storage_opts))?;
        if !self.storage_opts.is_empty() {
            writeln!(
                f,
                "- Without these options Docker looks for loop files, makes new ones, and then does not start."
            )?;
        }
        writeln!(
            f,
            "- Set the driver there or with a flag of the service, not both: with both, Docker does not start."
        )?;
        writeln!(
            f,
            "- Remove storage-opts of other drivers: devicemapper refuses options that it does not know."
        )?;
        write!(
            f,
            "- Leave dm.basesize out. Below {} bytes it keeps Docker from starting",
            self.base_size.0
        )?;
        if self.base_size != DEFAULT_BASE_SIZE {
            write!(
                f,
                " (10G, the default in old guides, is not this root's size)"
            )?;
        }
        writeln!(f, ".")?;
        writeln!(
            f,
            "- Without udev synchronization on this host, add \"dm.override_udev_sync_check=true\"."
        )?;
        write!(f, "- Docker 25 and later have no devicemapper driver.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn device_files_are_as_docker_writes_them() {
        assert_eq!(
            text(Device::base(DEFAULT_BASE_SIZE, 1).encode()),
            r#"{"device_id":1,"size":10737418240,"transaction_id":1,"initialized":true,"deleted":false}"#
        );
        assert_eq!(
            text(Device::layer(DeviceId::new(2).unwrap(), DEFAULT_BASE_SIZE, 2).encode()),
            r#"{"device_id":2,"size":10737418240,"transaction_id":2,"initialized":false,"deleted":false}"#
        );
    }

    #[test]
    fn set_and_transaction_are_as_docker_writes_them() {
        let uuid = Uuid::parse_str("6F9619FF-8B86-D011-B42D-00CF4FC964FF").unwrap();
        let last_device = DeviceId::new(7).unwrap();
        let set = DeviceSet {
            last_device,
            base_uuid: uuid,
            file_system: FileSystem::Ext4,
        };
        assert_eq!(
            text(set.encode()),
            r#"{"next_device_id":7,"BaseDeviceUUID":"6f9619ff-8b86-d011-b42d-00cf4fc964ff","BaseDeviceFilesystem":"ext4"}"#
        );
        let layer = CacheId::parse(b"abc-init").unwrap();
        let transaction = Transaction {
            id: 7,
            layer: Some(&layer),
            device: last_device,
        };
        assert_eq!(
            text(transaction.encode()),
            r#"{"open_transaction_id":7,"device_hash":"abc-init","device_id":7}"#
        );
        let transaction = Transaction {
            id: 1,
            layer: None,
            device: DeviceId::BASE,
        };
        assert_eq!(
            text(transaction.encode()),
            r#"{"open_transaction_id":1,"device_hash":"","device_id":1}"#
        );
    }

    #[test]
    fn device_ids_have_24_bits_and_are_not_zero() {
        assert!(DeviceId::new(0).is_err());
        assert_eq!(DeviceId::new(16_777_215).unwrap(), DeviceId::MAX);
        let error = DeviceId::new(16_777_216).unwrap_err();
        assert_eq!(
            error.to_string(),
            "device id 16777216: is not between 1 and 16777215"
        );
    }

    #[test]
    fn the_pool_is_named_after_the_directorys_inode() {
        let layer = CacheId::parse(b"abc").unwrap();
        assert_eq!(PoolName::new(24, 38).to_string(), "docker-0:24-38-pool");
        assert_eq!(PoolName::new(24, 38).base(), "docker-0:24-38-base");
        // 259:300 as Linux packs it: the upper bits of the minor number are above the major number.
        let name = PoolName::new(259 << 8 | 0x2c | 0x10_0000, 2);
        assert_eq!(name.device(&layer), "docker-259:300-2-abc");
    }

    #[test]
    fn the_hint_names_the_setting_and_what_stops_docker() {
        let text = SetupHint {
            settings_file: Some(Path::new("/mnt/etc/docker/daemon.json")),
            base_size: Bytes::gib(20),
            storage_opts: &[],
        }
        .to_string();
        for part in [
            "\"storage-driver\": \"devicemapper\"",
            "Below 21474836480 bytes",
            "not this root's size",
        ] {
            assert!(text.contains(part), "{part}");
        }
        assert!(
            !SetupHint {
                settings_file: Some(Path::new("/mnt/etc/docker/daemon.json")),
                base_size: DEFAULT_BASE_SIZE,
                storage_opts: &[],
            }
            .to_string()
            .contains("old guides")
        );
    }

    #[test]
    fn the_hint_names_the_pool() {
        let storage_opts = ["dm.thinpooldev=/dev/mapper/a-pool".to_owned()];
        let hint = SetupHint {
            settings_file: Some(Path::new("/mnt/etc/docker/daemon.json")),
            base_size: DEFAULT_BASE_SIZE,
            storage_opts: &storage_opts,
        };
        let line = r#"{"storage-driver": "devicemapper", "storage-opts": ["dm.thinpooldev=/dev/mapper/a-pool"]}"#;
        assert!(hint.to_string().contains(line), "{hint}");
    }
}
