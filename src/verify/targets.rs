//! The layers to verify, and the parent of each.

use std::collections::{BTreeMap, HashMap};

use super::layer_report::Role;
use crate::devicemapper::DeviceFiles;
use crate::devicemapper::driver_files::Device;
use crate::docker::{CacheId, KnownLayer, Store, Use};
use crate::forest::Forest;
use crate::thin::ThinId;
use crate::units::Bytes;

/// A layer to verify.
#[derive(Debug)]
pub(super) struct Target {
    /// `None`: the base device.
    pub(super) id: Option<CacheId>,
    /// What the stores know about it.
    pub(super) known: KnownLayer,
    /// The id and size of its device, according to the driver.
    pub(super) device: Option<(ThinId, Bytes)>,
    /// The target of which its device is a snapshot. `None`: it is not a snapshot, or the parent is unknown.
    pub(super) parent: Option<usize>,
}

impl Target {
    /// Its purpose.
    pub(super) fn role(&self) -> Role {
        if self.id.is_none() {
            return Role::Base;
        }
        let roles = self.known.uses.iter().map(|used| match used {
            Use::ImageLayer(_) => Role::Image,
            Use::Init(_) => Role::Init,
            Use::Writable(_) => Role::Writable,
            Use::BuildKit => Role::BuildCache,
            Use::Graph | Use::LegacyContainer(_) => Role::Unused,
        });
        roles.min().unwrap_or(Role::Unused)
    }
}

/// All targets; a parent may come after its children.
///
/// If there are devices, a layer that nothing needs and that has no device was left out on purpose.
pub(super) fn targets(store: &Store, devices: Option<&DeviceFiles>) -> Vec<Target> {
    let mut targets = Vec::new();
    if let Some(base) = devices.and_then(|devices| devices.base.as_ref()) {
        targets.push(Target {
            id: None,
            known: KnownLayer::default(),
            device: numbered(base),
            parent: None,
        });
    }
    let mut all: BTreeMap<&CacheId, KnownLayer> = store
        .known
        .iter()
        .map(|(id, known)| (id, known.clone()))
        .collect();
    for id in devices
        .into_iter()
        .flat_map(|devices| devices.layers.keys())
    {
        all.entry(id).or_default();
    }
    for (id, known) in all {
        let device = devices.and_then(|devices| devices.layers.get(id));
        // The survey likewise does not require the layers of a half-removed container if aufs has lost them.
        let unneeded = known.uses.is_empty() || known.of_removed && !known.in_aufs;
        if devices.is_some() && device.is_none() && unneeded {
            continue;
        }
        targets.push(Target {
            id: Some(id.clone()),
            known,
            device: device.and_then(numbered),
            parent: None,
        });
    }
    link(&mut targets);
    targets
}

fn numbered(device: &Device) -> Option<(ThinId, Bytes)> {
    let id = ThinId::new(device.id().get()).ok()?;
    Some((id, device.size()))
}

/// Finds the parents' indexes. A layer in a cycle, which only damaged stores have, gets none.
fn link(targets: &mut [Target]) {
    let places: HashMap<CacheId, usize> = targets
        .iter()
        .enumerate()
        .filter_map(|(place, target)| Some((target.id.clone()?, place)))
        .collect();
    let base = targets.iter().position(|target| target.id.is_none());
    for target in targets.iter_mut() {
        target.parent = match &target.known.parent {
            _ if target.id.is_none() || !target.known.parent_known => None,
            Some(parent) => places.get(parent).copied(),
            None => base,
        };
    }
    for place in forest(targets).on_circles() {
        targets[place].parent = None;
    }
}

/// The targets by parent.
pub(super) fn forest(targets: &[Target]) -> Forest {
    Forest::new(targets.iter().map(|target| target.parent).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(id: Option<&str>, parent: Option<&str>) -> Target {
        let parse = |text: &str| CacheId::parse(text.as_bytes()).unwrap();
        Target {
            id: id.map(parse),
            known: KnownLayer {
                parent: parent.map(parse),
                parent_known: id != Some("lonely"),
                ..KnownLayer::default()
            },
            device: None,
            parent: None,
        }
    }

    fn parents(layers: &[(Option<&str>, Option<&str>)]) -> Vec<Option<usize>> {
        let mut targets: Vec<_> = layers.iter().map(|&(id, on)| target(id, on)).collect();
        link(&mut targets);
        targets.iter().map(|target| target.parent).collect()
    }

    #[test]
    fn layers_lie_on_their_parents_and_first_ones_on_the_base() {
        let found = parents(&[
            (None, None),
            (Some("b"), Some("a")),
            (Some("a"), None),
            (Some("lonely"), None),
            (Some("orphan"), Some("gone")),
        ]);
        assert_eq!(found, [None, Some(2), Some(0), None, None]);
    }

    #[test]
    fn layers_in_a_circle_are_read_each_by_itself() {
        let found = parents(&[
            (Some("a"), Some("b")),
            (Some("b"), Some("a")),
            (Some("c"), Some("b")),
            (Some("d"), Some("d")),
        ]);
        assert_eq!(found, [None; 4]);
    }
}
