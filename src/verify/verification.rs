//! The state that all layers of one verification share.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use super::conversion_notes::ConversionNotes;
use super::damage::LayerDamage;
use super::layer_report::LayerReport;
use super::reach::Reach;
use super::report::Mode;
use super::targets::Target;
use crate::content::pool::Pool;
use crate::content::{ReadJob, WriteChecksums};
use crate::docker::{CacheId, Owner, Store};
use crate::forest::Forest;
use crate::source::Layer;

/// A verification in progress.
pub(super) struct Verification<'a> {
    pub(super) work: ReadJob<'a>,
    pub(super) mode: Mode,
    pub(super) reads_aufs: bool,
    pub(super) store: &'a Store,
    pub(super) targets: &'a [Target],
    pub(super) devices: Option<OpenDevices<'a>>,
    pub(super) aufs: Option<&'a Path>,
    /// The owner of container root, from the name of the root directory.
    pub(super) owner: Owner,
    /// The image store from which the one beside the devices was copied.
    pub(super) original: Option<PathBuf>,
    /// The records of the conversion in place about the aufs side.
    pub(super) noted: Option<ConversionNotes<'a>>,
    /// Branches that a conversion has already read.
    pub(super) known_branches: HashMap<&'a CacheId, &'a Layer>,
    /// The pool in the kernel, if only the kernel can read the devices.
    pub(super) reach: Option<&'a Reach>,
    pub(super) written: Option<WriteChecksums<'a>>,
    /// Targets whose contents are read in quick mode.
    pub(super) sample: HashSet<usize>,
    /// These targets and everything below them.
    pub(super) below_sample: HashSet<usize>,
    pub(super) forest: Forest,
    pub(super) done: Vec<OnceLock<LayerReport>>,
    pub(super) known_damage: &'a [LayerDamage],
    pub(super) damaged: Mutex<Vec<LayerDamage>>,
}

/// The open devices.
pub(super) struct OpenDevices<'a> {
    pub(super) home: &'a Path,
    pub(super) pool: &'a Pool,
}
