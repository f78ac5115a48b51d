//! The request for a verification.

use std::num::NonZeroUsize;
use std::path::Path;

use super::conversion_notes::ConversionNotes;
use super::damage::LayerDamage;
use super::report::Mode;
use crate::docker::{DamageRecord, StorePaths};
use crate::engine::WrittenRun;
use crate::plan::Plan;
use crate::pool::target::Target;
use crate::progress::Cancel;

/// A pool and the driver's files beside it.
#[derive(Clone, Copy, Debug)]
pub struct Devices<'a> {
    /// The driver's home: `devicemapper` in the root, or the directory that will become it.
    pub home: &'a Path,
    /// Where the pool's data and metadata are.
    pub target: &'a Target,
}

/// What a conversion that has just ended knows. It saves reading again, and is trusted no further than that.
#[derive(Clone, Copy, Debug)]
pub struct Conversion<'a> {
    /// Its plan, with the branches as they were read.
    pub plan: &'a Plan,
    /// Checksums of what it wrote, sorted by position. Contents are proven by them instead of being read back, except
    /// for anything that they do not cover. `None`: contents are read back as without a conversion.
    pub written: Option<&'a [WrittenRun]>,
}

/// The setup for asking the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The Docker root; its devices carry this root's mark.
    pub root: &'a Path,
    /// An empty directory for mount points.
    pub mounts: &'a Path,
}

/// What to verify, and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Docker's stores, and the aufs side as long as it exists.
    pub stores: StorePaths<'a>,
    /// The devices. `None`: the root was not converted; its branches are compared with what Docker once unpacked.
    pub devices: Option<Devices<'a>>,
    /// The image store from which the one beside the devices was copied, as long as it exists.
    pub original: Option<&'a Path>,
    /// What was damaged when the root was converted, and what became of it.
    pub before: &'a DamageRecord,
    /// Images that had no layers when the original was removed; `None`: not known.
    pub images_without_layers: Option<&'a [String]>,
    /// Whether there was a file of image names at that time.
    pub has_names: bool,
    /// How much is read.
    pub mode: Mode,
    /// Whether the bytes in aufs are also read for layers whose devices are proven by Docker's records.
    pub reads_aufs: bool,
    /// What a conversion that has just ended knows.
    pub conversion: Option<Conversion<'a>>,
    /// The records of the conversion in place about the aufs side.
    pub noted: Option<ConversionNotes<'a>>,
    /// Damage from before the conversion that was recorded earlier. It counts if aufs is gone.
    pub known_damage: &'a [LayerDamage],
    /// How to ask the kernel to mount the devices too; `None`: it is not asked.
    pub kernel: Option<Ask<'a>>,
    /// Number of threads.
    pub jobs: NonZeroUsize,
    /// Set to stop early.
    pub cancel: Cancel,
}
