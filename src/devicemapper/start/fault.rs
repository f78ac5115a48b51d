//! The faults that the checks find.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::severity::Severity;
use crate::chain::Chain;
use crate::docker::{CONFIG, CacheId, ChainId, ContainerId, JsonError, ReadError};
use crate::tree::shown;

/// A fault that keeps Docker from starting on a devicemapper root, makes Docker lose something, or disturbs it later.
#[derive(Debug, Error)]
pub enum StartFault {
    /// A file or directory that cannot be read.
    #[error("{source}")]
    Unreadable {
        /// The file and the cause.
        source: ReadError,
    },
    /// The driver's directory is a symbolic link. Docker starts, but no container does: runc rejects a root file system
    /// behind a link.
    #[error(
        "{}: is a symbolic link, so no container starts; mount the directory there instead",
        shown(path)
    )]
    HomeIsLink {
        /// The driver's directory.
        path: PathBuf,
    },
    /// A file of the pool is missing: Docker makes a new one and finds no base device in it.
    #[error(
        "{}: is missing, and Docker does not start with a new one",
        shown(path)
    )]
    FileMissing {
        /// The file.
        path: PathBuf,
    },
    /// A file of the pool is smaller than the pool.
    #[error("{}: has {size} bytes, but the pool needs {needed}", shown(path))]
    FileTooSmall {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// The size that the pool's metadata records.
        needed: u64,
    },
    /// A file in the format from before Docker 0.12, whose devices would replace the current ones.
    #[error(
        "{}: Docker takes the devices in this old file for its own; move it away",
        shown(path)
    )]
    OldDevices {
        /// The file.
        path: PathBuf,
    },
    /// A file among the device files that is not a device's. With few exceptions, Docker takes every name as a device.
    #[error(
        "{}: {}, and Docker takes every file there for a device file; move it away",
        shown(path),
        Chain(source)
    )]
    NotADevice {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: DeviceFileError,
    },
    /// The file with the base device's UUID is damaged.
    #[error("{}: {source}", shown(path))]
    DeviceSet {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: JsonError,
    },
    /// The base device has no file, and the pool is in use.
    #[error(
        "{}: is missing, and Docker does not take over a pool that is in use",
        shown(path)
    )]
    NoBaseInGivenPool {
        /// The path that the file should have.
        path: PathBuf,
    },
    /// The base device has no file: Docker makes a new one.
    #[error(
        "{}: is missing: Docker makes a new base device, and a second layer of each kind of its own",
        shown(path)
    )]
    NoBase {
        /// The path that the file should have.
        path: PathBuf,
    },
    /// The base device is marked as unfinished or deleted.
    #[error(
        "{}: marks the base device as {how}: Docker deletes it and makes a new one",
        shown(path)
    )]
    BaseReplaced {
        /// Its file.
        path: PathBuf,
        /// The mark.
        how: &'static str,
    },
    /// The base device is not in the pool.
    #[error("base device {device}: is not in the pool")]
    BaseNotInPool {
        /// Its id.
        device: i64,
    },
    /// The base device's file system cannot be read.
    #[error("base device {device}: its file system cannot be read: {source}")]
    BaseUnreadable {
        /// Its id.
        device: u32,
        /// The cause.
        source: io::Error,
    },
    /// The base device's file system is not the recorded one: Docker considers the pool to be another one.
    #[error("base device: has UUID {found}, but {} says {recorded}", shown(path))]
    BaseUuid {
        /// The file with the recorded UUID.
        path: PathBuf,
        /// The UUID as `blkid` prints it.
        found: String,
        /// The recorded UUID.
        recorded: String,
    },
    /// The base device's file system is of another kind than the recorded one.
    #[error(
        "base device: is {found}, but {} says {recorded}: containers with their own size fail",
        shown(path)
    )]
    BaseFileSystem {
        /// The file with the recorded kind.
        path: PathBuf,
        /// The kind as `blkid` prints it.
        found: String,
        /// The recorded kind.
        recorded: String,
    },
    /// The transaction is newer than the pool's: Docker considers it unfinished.
    #[error(
        "{}: names transaction {open}, but the pool is at {pool}: Docker deletes device {device} and the file of \
         {layer:?}",
        shown(path)
    )]
    TransactionUnfinished {
        /// The file.
        path: PathBuf,
        /// Its transaction.
        open: u64,
        /// The pool's.
        pool: u64,
        /// The device that Docker deletes.
        device: i64,
        /// The layer whose file Docker deletes; empty for the base.
        layer: String,
    },
    /// The transaction is older than the pool's: Docker logs an error and continues.
    #[error(
        "{}: names transaction {open}, but the pool is at {pool}; Docker logs an error and continues",
        shown(path)
    )]
    TransactionOld {
        /// The file.
        path: PathBuf,
        /// Its transaction.
        open: u64,
        /// The pool's.
        pool: u64,
    },
    /// A device that a file names is not in the pool: what uses it fails.
    #[error("device {device} of {layer}: is not in the pool, so whatever uses it fails")]
    NotInPool {
        /// The file's name.
        layer: String,
        /// The device.
        device: i64,
    },
    /// Two files name the same device.
    #[error("device {device}: belongs to {first} and to {second}")]
    SharedDevice {
        /// The device.
        device: i64,
        /// One file's name.
        first: String,
        /// The other's.
        second: String,
    },
    /// The pool has a device that no file names: its space is lost.
    #[error(
        "device {device}: is in the pool, but no file in metadata/ names it, so its space is lost"
    )]
    WithoutFile {
        /// The device.
        device: u32,
    },
    /// A device is marked as deleted: Docker removes it.
    #[error("device of {layer}: is marked as deleted, so it cannot be used and Docker removes it")]
    Deleted {
        /// The file's name.
        layer: String,
    },
    /// A layer of the image store has no device.
    #[error(
        "layer {chain}: its device {cache} has no file in metadata/, so its images cannot be used"
    )]
    LayerWithoutDevice {
        /// The layer.
        chain: ChainId,
        /// Its id in the driver.
        cache: CacheId,
    },
    /// A container's layer has no device.
    #[error(
        "container {container}: its {what} device {cache} has no file in metadata/, so it does not start"
    )]
    MountWithoutDevice {
        /// The container.
        container: ContainerId,
        /// `init` or `writable`.
        what: &'static str,
        /// The layer's id in the driver.
        cache: CacheId,
    },
    /// The names of images cannot be read, which keeps the daemon from starting.
    #[error("{message}")]
    References {
        /// The file and what is wrong.
        message: String,
    },
    /// Part of the image store or of a container is damaged: Docker runs without it.
    #[error("{message}")]
    Store {
        /// The file and what is wrong.
        message: String,
    },
    /// The config of a container with layers here names another driver: Docker does not show the container.
    #[error(
        "container {container}: its {CONFIG} names the driver {driver:?}, but its layers are here, so Docker does not show it"
    )]
    OtherDriver {
        /// The container.
        container: ContainerId,
        /// The driver, escaped.
        driver: String,
    },
    /// The image store has no record of a container of this driver: Docker does not show the container.
    #[error(
        "container {container}: image/devicemapper/layerdb/mounts has no record of it, so Docker does not show it"
    )]
    ContainerWithoutMount {
        /// The container.
        container: ContainerId,
    },
    /// A container's config has another id than its directory: Docker does not load it.
    #[error(
        "container {container}: its {CONFIG} is that of container {found}, so Docker does not show it"
    )]
    OtherId {
        /// The container.
        container: ContainerId,
        /// The id in the config, escaped.
        found: String,
    },
    /// The image store has a container's layers, but the container has no config: Docker does not show it.
    #[error("container {container}: has layers but no {CONFIG}, so Docker does not show it")]
    MountWithoutConfig {
        /// The container.
        container: ContainerId,
    },
    /// A container still belongs to aufs: Docker does not show it.
    #[error("container {container}: its {CONFIG} still names aufs, so Docker does not show it")]
    NotSwitched {
        /// The container.
        container: ContainerId,
    },
}

/// Why a file is not a device's.
#[derive(Debug, Error)]
pub enum DeviceFileError {
    /// It cannot be read.
    #[error("cannot be read")]
    Read(#[from] ReadError),
    /// The driver did not write it.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Its number is not a device id.
    #[error("device id {0}: is not between 0 and 16777215")]
    Id(i64),
    /// It contains directories that are nested too deep to follow.
    #[error("is nested too deeply")]
    TooDeep,
}

impl StartFault {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Unreadable { .. }
            | Self::FileMissing { .. }
            | Self::FileTooSmall { .. }
            | Self::NotADevice { .. }
            | Self::DeviceSet { .. }
            | Self::NoBaseInGivenPool { .. }
            | Self::BaseNotInPool { .. }
            | Self::BaseUnreadable { .. }
            | Self::BaseUuid { .. }
            | Self::References { .. } => Severity::Refusal,
            Self::TransactionOld { .. } | Self::WithoutFile { .. } => Severity::Remark,
            _ => Severity::Warning,
        }
    }
}
