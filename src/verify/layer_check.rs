//! A layer under examination, with its device.

use super::open_device::OpenDevice;
use super::targets::Target;
use super::verification::Verification;
use crate::docker::CacheId;
use crate::tree::LayerTree;

/// A layer under examination.
pub(super) struct LayerCheck<'r, 'a> {
    pub(super) run: &'r Verification<'a>,
    pub(super) target: &'r Target,
    pub(super) id: &'r CacheId,
    pub(super) opened: Option<&'r OpenDevice<'a>>,
    pub(super) below: Option<&'r OpenDevice<'a>>,
}

/// The sizes of all regular files of a layer.
pub(super) fn file_bytes(tree: &LayerTree) -> u64 {
    let sizes = tree
        .nodes()
        .filter_map(|(node, _)| Some(tree.regular(node)?.size));
    sizes.fold(0, u64::saturating_add)
}
