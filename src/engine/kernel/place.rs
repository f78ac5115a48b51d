//! The paths that a run uses, and its options.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::base::mkfs;
use crate::engine::checkpoint::Checkpoints;
use crate::plan::PoolSizes;
use crate::pool::target::Target;
use crate::progress::Cancel;

/// The paths that a run uses.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// The Docker root.
    pub root: &'a Path,
    /// The staging directory, which holds the engine's mount points and its record.
    pub stage: &'a Path,
    /// The directory that becomes the root's `devicemapper`; devices are named after it.
    pub home: &'a Path,
    /// The pool.
    pub target: &'a Target,
    /// For loop files: the paths of data and metadata, and their sizes.
    pub files: Option<((PathBuf, PathBuf), PoolSizes)>,
}

/// How the engine works.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The number of copying threads, and the maximum number of layers at a time.
    pub jobs: NonZeroUsize,
    /// Set to stop the run early; the engine also sets it when the pool fails.
    pub cancel: Cancel,
    /// Where the run starts, and where it records its progress.
    pub checkpoints: Checkpoints<'a>,
    /// The programs that make the base device's file system.
    pub programs: &'a mkfs::Programs,
}
