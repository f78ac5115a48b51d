//! What the checks find.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::severity::Severity;
use crate::chain::Chain;
use crate::docker::{CONFIG, CacheId, ChainId, ContainerId, JsonError, ReadError};
use crate::tree::shown;

/// Something that keeps Docker from starting on a devicemapper root, or that it loses or trips over.
#[derive(Debug, Error)]
pub enum StartFault {
    /// A file or directory that cannot be read.
    #[error("{source}")]
    Unreadable {
        /// Which, and why.
        source: ReadError,
    },
    /// Docker starts, but no container does: runc takes no root file system behind a link.
    #[error(
        "{}: is a symbolic link, so no container starts; mount the directory there instead",
        shown(path)
    )]
    HomeIsLink {
        /// The driver's directory.
        path: PathBuf,
    },
    /// A file of the pool is not there: Docker makes a new one and finds no base device in it.
    #[error(
        "{}: is missing, and Docker does not start with a new one",
        shown(path)
    )]
    FileMissing {
        /// The file.
        path: PathBuf,
    },
    /// A file of the pool is smaller than the pool.
    #[error("{}: has {size} bytes, and the pool needs {needed}", shown(path))]
    FileTooSmall {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// What the pool's metadata records.
        needed: u64,
    },
    /// The form of the file before Docker 0.12, whose devices would replace today's.
    #[error(
        "{}: Docker takes the devices of this old file for its own; move it away",
        shown(path)
    )]
    OldDevices {
        /// The file.
        path: PathBuf,
    },
    /// A file among the devices' that is none: every name but a few is taken for a device.
    #[error(
        "{}: {}, and Docker takes every file there for a device's; move it away",
        shown(path),
        Chain(source)
    )]
    NotADevice {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DeviceFileError,
    },
    /// The file with the base device's UUID is damaged.
    #[error("{}: {source}", shown(path))]
    DeviceSet {
        /// The file.
        path: PathBuf,
        /// Why.
        source: JsonError,
    },
    /// No file of the base device, with a pool in use.
    #[error(
        "{}: is missing, and Docker does not take over a pool that is in use",
        shown(path)
    )]
    NoBaseInGivenPool {
        /// Where it belongs.
        path: PathBuf,
    },
    /// No file of the base device: Docker makes a new one.
    #[error(
        "{}: is missing: Docker makes a new base device, and a second layer of each kind of its own",
        shown(path)
    )]
    NoBase {
        /// Where it belongs.
        path: PathBuf,
    },
    /// A base device that is marked as unfinished or deleted.
    #[error(
        "{}: marks the base device as {how}: Docker deletes it and makes a new one",
        shown(path)
    )]
    BaseReplaced {
        /// Its file.
        path: PathBuf,
        /// As what.
        how: &'static str,
    },
    /// The base device is not in the pool.
    #[error("base device {device}: is not in the pool")]
    BaseNotInPool {
        /// Its number.
        device: i64,
    },
    /// The base device's file system cannot be read.
    #[error("base device {device}: its file system cannot be read: {source}")]
    BaseUnreadable {
        /// Its number.
        device: u32,
        /// Why.
        source: io::Error,
    },
    /// Another file system than the one recorded: Docker takes the pool for another one.
    #[error("base device: has UUID {found}, and {} says {recorded}", shown(path))]
    BaseUuid {
        /// The file with the recorded one.
        path: PathBuf,
        /// As `blkid` prints it.
        found: String,
        /// As recorded.
        recorded: String,
    },
    /// Another kind of file system than the one recorded.
    #[error(
        "base device: is {found}, and {} says {recorded}: containers with a size of their own fail",
        shown(path)
    )]
    BaseFileSystem {
        /// The file with the recorded one.
        path: PathBuf,
        /// As `blkid` prints it.
        found: String,
        /// As recorded.
        recorded: String,
    },
    /// A transaction newer than the pool's: Docker takes it for unfinished.
    #[error(
        "{}: names transaction {open}, and the pool is at {pool}: Docker deletes device {device} and the file of {layer:?}",
        shown(path)
    )]
    TransactionUnfinished {
        /// The file.
        path: PathBuf,
        /// Its transaction.
        open: u64,
        /// The pool's.
        pool: u64,
        /// The device that goes.
        device: i64,
        /// The layer that goes; empty for the base.
        layer: String,
    },
    /// A transaction older than the pool's: Docker prints an error and goes on.
    #[error(
        "{}: names transaction {open}, and the pool is at {pool}; Docker goes on with an error in its log",
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
    /// A device that its file names is not in the pool: what uses it fails.
    #[error("device {device} of {layer}: is not in the pool, so what uses it fails")]
    NotInPool {
        /// The file's name.
        layer: String,
        /// The device.
        device: i64,
    },
    /// Two files name one device.
    #[error("device {device}: belongs to {first} and to {second}")]
    SharedDevice {
        /// The device.
        device: i64,
        /// One file's name.
        first: String,
        /// The other's.
        second: String,
    },
    /// A device of the pool that no file names: its space is lost.
    #[error(
        "device {device}: is in the pool, and no file in metadata/ names it, so its space is lost"
    )]
    WithoutFile {
        /// The device.
        device: u32,
    },
    /// A device marked as deleted: Docker removes it.
    #[error("device of {layer}: is marked as deleted, so it cannot be used and Docker removes it")]
    Deleted {
        /// The file's name.
        layer: String,
    },
    /// A layer of the image store has no device.
    #[error(
        "layer {chain}: its device {cache} has no file in metadata/, so nothing can be made of its images"
    )]
    LayerWithoutDevice {
        /// The layer.
        chain: ChainId,
        /// Its id with the driver.
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
        /// The layer's id with the driver.
        cache: CacheId,
    },
    /// The names of images cannot be read, without which the daemon does not start.
    #[error("{message}")]
    References {
        /// The file and what is wrong.
        message: String,
    },
    /// Something in the image store or of a container is damaged: Docker goes without it.
    #[error("{message}")]
    Store {
        /// The file and what is wrong.
        message: String,
    },
    /// A container with layers here whose config names another driver: Docker does not show it.
    #[error(
        "container {container}: its {CONFIG} names the driver {driver:?}, but its layers are here, so Docker does not show it"
    )]
    OtherDriver {
        /// The container.
        container: ContainerId,
        /// The driver, escaped.
        driver: String,
    },
    /// A container of the driver that the image store has no record of: Docker does not show it.
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
    /// The image store has a container's layers, and there is no config of it: Docker does not show it.
    #[error("container {container}: has layers but no {CONFIG}, so Docker does not show it")]
    MountWithoutConfig {
        /// The container.
        container: ContainerId,
    },
    /// A container that still belongs to aufs: Docker does not show it.
    #[error("container {container}: its {CONFIG} still names aufs, so Docker does not show it")]
    NotSwitched {
        /// The container.
        container: ContainerId,
    },
}

/// Why a file is no device's.
#[derive(Debug, Error)]
pub enum DeviceFileError {
    /// It cannot be read.
    #[error("cannot be read")]
    Read(#[from] ReadError),
    /// Not what the driver writes.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A number that is no device's.
    #[error("device id {0} is not from 0 to 16777215")]
    Id(i64),
    /// Directories nested deeper than can be followed.
    #[error("is nested too deep")]
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
