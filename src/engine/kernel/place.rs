//! Where a run writes, and with what.

use std::path::Path;

use super::base::mkfs;
use crate::engine::Place;
use crate::plan::PoolSizes;
use crate::pool::target::Target;

/// The paths that a run uses.
#[derive(Clone, Debug)]
pub(super) struct RunPlace<'a> {
    /// The Docker root.
    pub(super) root: &'a Path,
    /// The staging directory, which holds the engine's mount points and its record.
    pub(super) stage: &'a Path,
    /// The directory that becomes the root's `devicemapper`; devices are named after it.
    pub(super) home: &'a Path,
    /// The pool, as it was asked for.
    pub(super) target: &'a Target,
    /// The pool, with all that is needed to open it.
    pub(super) pool: PoolPlace<'a>,
    /// The programs that make the base device's file system.
    pub(super) programs: &'a mkfs::Programs,
}

/// The devices or files of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) enum PoolPlace<'a> {
    /// Two files in the staging directory, of these sizes.
    LoopFiles {
        data: &'a Path,
        metadata: &'a Path,
        sizes: PoolSizes,
    },
    /// The operator's devices.
    Devices { data: &'a Path, metadata: &'a Path },
    /// The operator's pool.
    ThinPool { path: &'a Path },
}

impl<'a> PoolPlace<'a> {
    /// The place of `target`; `sizes` are those of loop files.
    pub(super) fn of(target: &'a Target, place: &'a Place<'_>, sizes: Option<PoolSizes>) -> Self {
        match target {
            Target::LoopFiles => {
                let files = place.files.as_ref().zip(sizes);
                let ((data, metadata), sizes) =
                    files.expect("a job for loop files has their sizes");
                Self::LoopFiles {
                    data,
                    metadata,
                    sizes,
                }
            }
            Target::Devices { data, metadata } => Self::Devices { data, metadata },
            Target::ThinPool { path } => Self::ThinPool { path },
        }
    }
}
