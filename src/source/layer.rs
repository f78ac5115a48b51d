//! A layer to convert.

use std::path::PathBuf;

use crate::docker::CacheId;
use crate::tree::LayerTree;

/// A layer as it was read.
#[derive(Debug)]
pub struct Layer {
    /// The graph driver's id: the name below `aufs/layers` and `aufs/diff`.
    pub id: CacheId,
    /// Its parent.
    pub parent: Option<CacheId>,
    /// Its branch directory, from which the engine opens the files.
    pub branch: PathBuf,
    /// Its changes.
    pub tree: LayerTree,
}
