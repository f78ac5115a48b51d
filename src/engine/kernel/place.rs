//! Where a run works, and how.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::base::mkfs;
use crate::engine::checkpoint::Checkpoints;
use crate::plan::PoolSizes;
use crate::pool::target::Target;
use crate::progress::Cancel;

/// Where everything goes.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// The Docker root.
    pub root: &'a Path,
    /// The staging directory, in which the engine has its mount points and its record.
    pub stage: &'a Path,
    /// What becomes the root's `devicemapper`; devices are named after it.
    pub home: &'a Path,
    /// The pool.
    pub target: &'a Target,
    /// For loop files: the two paths, data and metadata, and their sizes.
    pub files: Option<((PathBuf, PathBuf), PoolSizes)>,
}

/// How the engine works.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// Threads that copy, and the most layers at a time.
    pub jobs: NonZeroUsize,
    /// Set to stop the run early; set by the engine too when the pool fails.
    pub cancel: Cancel,
    /// Where the run begins, and whom it tells how far it came.
    pub checkpoints: Checkpoints<'a>,
    /// What makes the base device's file system.
    pub programs: &'a mkfs::Programs,
}
