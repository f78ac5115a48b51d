//! What is to be verified.

use std::num::NonZeroUsize;
use std::path::Path;

use super::conversion_notes::ConversionNotes;
use super::damage::LayerDamage;
use super::report::Mode;
use crate::docker::StorePaths;
use crate::engine::direct::WrittenRun;
use crate::plan::Plan;
use crate::pool::target::Target;
use crate::progress::Cancel;

/// A pool and the driver's files beside it.
#[derive(Clone, Copy, Debug)]
pub struct Devices<'a> {
    /// The driver's home: `devicemapper` in the root, or what is to become it.
    pub home: &'a Path,
    /// Where the pool's data and metadata are.
    pub target: &'a Target,
}

/// What a conversion that has just ended knows. It spares reading again, and is believed no further than that.
#[derive(Clone, Copy, Debug)]
pub struct Conversion<'a> {
    /// Its plan, with the branches as they were read.
    pub plan: &'a Plan,
    /// Checksums of what it wrote, ascending by place. Contents are proven by them instead of being read back, apart from
    /// what is not among them. `None`: contents are read back as without a conversion.
    pub written: Option<&'a [WrittenRun]>,
}

/// How the kernel is asked.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The Docker root, whose mark its devices bear.
    pub root: &'a Path,
    /// An empty directory for mount points.
    pub mounts: &'a Path,
}

/// What is to be verified, and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Docker's stores, and the aufs side as long as it is there.
    pub stores: StorePaths<'a>,
    /// The devices. `None`: a root that was not converted; its branches are compared with what Docker once unpacked.
    pub devices: Option<Devices<'a>>,
    /// The image store that the one beside the devices was copied from, as long as it is there.
    pub original: Option<&'a Path>,
    /// Images that were without their layers when the original went; `None`: not known.
    pub images_without_layers: Option<&'a [String]>,
    /// Whether there was a file of names of images then.
    pub has_names: bool,
    /// How much is read.
    pub mode: Mode,
    /// Whether the bytes that aufs has are read of layers too whose devices are proven by what Docker recorded.
    pub reads_aufs: bool,
    /// What a conversion that has just ended knows.
    pub conversion: Option<Conversion<'a>>,
    /// What the conversion that is in place noted of the aufs side.
    pub noted: Option<ConversionNotes<'a>>,
    /// Damage from before the conversion that was noted earlier. It counts where aufs is gone.
    pub known_damage: &'a [LayerDamage],
    /// Whether the kernel is asked to mount the devices too.
    pub kernel: Option<Ask<'a>>,
    /// Threads.
    pub jobs: NonZeroUsize,
    /// Set to stop early.
    pub cancel: Cancel,
}
