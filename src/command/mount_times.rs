//! The time of the kernel's last mount of each device, as a verification saw it.

use std::collections::BTreeMap;

use crate::docker::CacheId;
use crate::verify::{LayerReport, Report};

/// When the kernel last mounted each device's file system writable, where known.
pub(super) fn mounts(report: &Report) -> BTreeMap<String, i64> {
    let layers = report.layers.iter();
    layers
        .filter_map(|layer| Some((name_of(layer).to_owned(), layer.mounted?)))
        .collect()
}

pub(super) fn name_of(layer: &LayerReport) -> &str {
    layer.id.as_ref().map_or("base", CacheId::as_str)
}
