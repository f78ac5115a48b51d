//! Finds what xfs cannot hold before anything is written. Times are not included: their range depends on how mkfs.xfs
//! was built, so they are checked as they are written.

use super::error::Error;
use super::limits::{EntryLimit, LayerLimits, LimitProblem};
use super::xfs_problem::{MAX_DEVICE, MAX_TARGET, XfsProblem};
use crate::source::Layer;
use crate::tree::{DeviceNumber, Kind};

/// Checks every entry of the layers.
pub(super) fn expect_holdable(layers: &[Layer]) -> Result<(), Error> {
    let limits = layers.iter().filter_map(|layer| {
        let nodes = layer.tree.nodes();
        let found = nodes.filter_map(|(node, content)| {
            let problem = LimitProblem::Xfs(problem(&content.kind)?);
            let path = layer.tree.display_path(node);
            Some(EntryLimit { path, problem })
        });
        LayerLimits::of(&layer.id, found)
    });
    let layers: Vec<_> = limits.collect();
    if layers.is_empty() {
        return Ok(());
    }
    Err(Error::Limits { layers })
}

fn problem(kind: &Kind) -> Option<XfsProblem> {
    match *kind {
        Kind::Symlink(ref target) if target.len() > MAX_TARGET => Some(XfsProblem::Target {
            bytes: target.len(),
        }),
        Kind::CharDevice(DeviceNumber { major, minor })
        | Kind::BlockDevice(DeviceNumber { major, minor })
            if major > MAX_DEVICE.major || minor > MAX_DEVICE.minor =>
        {
            Some(XfsProblem::Device { major, minor })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_devices_beyond_what_xfs_takes_are_found() {
        let link = |bytes| Kind::Symlink(vec![b't'; bytes].into());
        let device = |major, minor| Kind::CharDevice(DeviceNumber { major, minor });
        for kind in [link(1023), device(511, 262_143), Kind::Fifo] {
            assert_eq!(problem(&kind), None, "{kind:?}");
        }
        for kind in [link(1024), device(512, 0), device(0, 262_144)] {
            assert!(problem(&kind).is_some(), "{kind:?}");
        }
    }
}
