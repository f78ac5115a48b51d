//! What all layers of one verification share.

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
use crate::source::Layer;

/// A verification under way.
pub(super) struct Verification<'a> {
    pub(super) work: ReadJob<'a>,
    pub(super) mode: Mode,
    pub(super) reads_aufs: bool,
    pub(super) store: &'a Store,
    pub(super) targets: &'a [Target],
    pub(super) devices: Option<OpenDevices<'a>>,
    pub(super) aufs: Option<&'a Path>,
    /// The owner of container root, by the root's name.
    pub(super) owner: Owner,
    /// The image store that the one beside the devices was copied from.
    pub(super) original: Option<PathBuf>,
    /// What the conversion in place noted of the aufs side.
    pub(super) noted: Option<ConversionNotes<'a>>,
    /// Branches that a conversion has read already.
    pub(super) known_branches: HashMap<&'a CacheId, &'a Layer>,
    /// The pool in the kernel, where only that reads the devices.
    pub(super) reach: Option<&'a Reach>,
    pub(super) written: Option<WriteChecksums<'a>>,
    /// Targets whose contents are read in quick mode.
    pub(super) sample: HashSet<usize>,
    /// These and all that lie below them.
    pub(super) below_sample: HashSet<usize>,
    pub(super) children: Vec<Vec<usize>>,
    pub(super) done: Vec<OnceLock<LayerReport>>,
    pub(super) known_damage: &'a [LayerDamage],
    pub(super) damaged: Mutex<Vec<LayerDamage>>,
}

/// The devices, opened.
pub(super) struct OpenDevices<'a> {
    pub(super) home: &'a Path,
    pub(super) pool: &'a Pool,
}
