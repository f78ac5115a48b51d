//! The border between a conversion and the engines: what each engine can be asked, and what it answers.
//!
//! A conversion holds an [`Engine`], has it plan a [`Job`], and has the job written. It never asks which engine it has.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::checkpoint::Checkpoints;
use super::device_files::device_files;
use super::error::Error;
use super::written_pool::WrittenPool;
use crate::devicemapper::driver_files::DEFAULT_BLOCK_SIZE;
use crate::plan::{self, Fingerprint, Layout, Plan, PoolSizes};
use crate::pool::target::Target;
use crate::progress::{Cancel, Progress};
use crate::source::Layer;
use crate::units::{Bytes, MetaBlocks};

/// An engine that was found usable with its target.
pub trait Engine: fmt::Debug + Send + Sync {
    /// What the operator should know about the target.
    fn notices(&self) -> &[String] {
        &[]
    }

    /// The device-mapper name of the operator's pool, if the layers go there.
    fn pool(&self) -> Option<&str> {
        None
    }

    /// The pool's transaction id before the first device is created.
    fn transaction_before(&self) -> u64 {
        0
    }

    /// Plans the layers for the target. Writes nothing.
    ///
    /// # Errors
    ///
    /// The layers do not fit any file system that the target can have.
    fn plan(
        &self,
        layers: Vec<Layer>,
        options: &plan::Options,
    ) -> Result<Box<dyn Job>, plan::Error>;
}

/// A plan that an engine can write to its target.
pub trait Job: fmt::Debug + Send + Sync {
    /// The engine's name, as `--engine` takes it.
    fn engine(&self) -> &'static str;

    /// The devices.
    fn plan(&self) -> &Plan;

    /// The fingerprint that distinguishes the plan from any other.
    fn fingerprint(&self) -> Fingerprint {
        self.plan().fingerprint()
    }

    /// The plan down to the block, if this engine decides that.
    fn layout(&self) -> Option<&Layout> {
        None
    }

    /// The UUID of the base device's file system, if this engine decides that.
    fn base_uuid(&self) -> Option<Uuid> {
        None
    }

    /// Where the pool is.
    fn target(&self) -> &Target {
        &Target::LoopFiles
    }

    /// The size of the pool's data blocks.
    fn data_block(&self) -> Bytes {
        DEFAULT_BLOCK_SIZE
    }

    /// Sizes of the pool's sparse files in the Docker root, unless the pool is on other devices.
    fn pool_sizes(&self) -> Option<PoolSizes>;

    /// The space that the layers take in the pool; an upper estimate unless this engine decides it.
    fn pool_usage(&self) -> PoolUsage;

    /// Bytes written into the Docker root for the pool.
    fn bytes_needed(&self) -> Bytes {
        let usage = self.pool_usage();
        match self.pool_sizes() {
            Some(_) => Bytes(usage.data.0 + usage.metadata.bytes().0),
            None => Bytes(0),
        }
    }

    /// Checks that the target has enough space, if it is outside the Docker root's own file system. Returns a notice if
    /// space may become scarce.
    ///
    /// # Errors
    ///
    /// The target is too small.
    fn check_room(&self) -> Result<Option<String>, Error> {
        Ok(None)
    }

    /// Whether the layers that were durable are still there after a run that failed.
    fn keeps_layers(&self) -> bool;

    /// Writes all devices. On return they are durable and inactive.
    ///
    /// # Errors
    ///
    /// Why the run stopped. What it wrote outside the staging directory is removed again, or the error lists it.
    fn write(
        &self,
        place: &Place<'_>,
        options: &Options<'_>,
        progress: &dyn Progress,
    ) -> Result<WrittenPool, Error>;

    /// The files by which Docker's driver knows the devices: names in `devicemapper/metadata`, and contents.
    fn driver_files(&self, base_uuid: Uuid) -> Vec<(&str, Vec<u8>)> {
        device_files(self.plan(), base_uuid)
    }

    /// What the daemon must be told about the pool besides the driver, as its `storage-opts`.
    fn storage_opts(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The space that layers take in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    /// In its data.
    pub data: Bytes,
    /// In its metadata.
    pub metadata: MetaBlocks,
}

/// The paths that a run uses.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// The Docker root.
    pub root: &'a Path,
    /// The staging directory, where an engine may have mount points and a record.
    pub stage: &'a Path,
    /// The directory that becomes the root's `devicemapper`; devices are named after it.
    pub home: &'a Path,
    /// The pool's data and metadata file, if the job has [`pool_sizes`](Job::pool_sizes).
    pub files: Option<(PathBuf, PathBuf)>,
}

/// How an engine works. What it writes depends only on the plan.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The number of threads that read and write. It should exceed the number of cores: on a cold disk most threads
    /// wait.
    pub jobs: NonZeroUsize,
    /// Set to stop the run early; an engine also sets it when the pool fails.
    pub cancel: Cancel,
    /// Where the run starts, and where it records its progress.
    pub checkpoints: Checkpoints<'a>,
    /// Whether to compute the checksums of what is written, if the engine can.
    pub checksums: bool,
}
