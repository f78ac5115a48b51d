//! Records of containers' layers, from the driver's lists and the images that the containers were created from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use super::record_change::{NewContent, RecordChange};
use crate::docker::container::Container;
use crate::docker::diagnostics::{Diagnostics, Subject};
use crate::docker::fault::Fault;
use crate::docker::id::{CacheId, ChainId, ContainerId, MountId};
use crate::docker::image_store::ImageStore;
use crate::docker::layer::Below;
use crate::docker::mount::{DamagedMount, InitId, Mount, MountFile};
use crate::docker::stack::Stack;

/// What a mount is rebuilt from.
const LISTS: &str = "the parent lists of its layers";

/// Rebuilds damaged records of containers' layers. Returns the files that the new store has in another form.
pub(in crate::docker) fn rebuild_mounts(
    store: &mut ImageStore,
    stack: &Stack,
    containers: &BTreeMap<ContainerId, Container>,
    notes: &mut Diagnostics,
) -> Vec<RecordChange> {
    let mut damaged = std::mem::take(&mut store.mounts.damaged);
    take_incomplete(store, stack, &mut damaged);
    let mut changes = Vec::new();
    let mut left = BTreeMap::new();
    for (id, record) in damaged {
        let work = Work::new(store, stack);
        let image = containers.get(&id).and_then(|container| container.image);
        let top = image.and_then(|image| Some(store.images.by_id.get(&image)?.top));
        match work.rebuild(&record, top) {
            Some(mount) => {
                changes.extend(changes_of(&id, &mount, &record));
                for (_, fault) in record.faults {
                    notes.repaired(Subject::Mount(id.clone()), fault, LISTS);
                }
                store.mounts.sound.insert(id, mount);
            }
            None => {
                left.insert(id, record);
            }
        }
    }
    store.mounts.damaged = left;
    changes
}

/// Takes out the records that lack a file which the driver's lists show to have been there.
fn take_incomplete(
    store: &mut ImageStore,
    stack: &Stack,
    damaged: &mut BTreeMap<ContainerId, DamagedMount>,
) {
    let mut incomplete = Vec::new();
    for (id, mount) in &store.mounts.sound {
        let directory = store.mounts.dir_of(id);
        let missing = |file: MountFile| {
            let path = directory.join(file.name());
            (Some(file), Fault::Missing { path })
        };
        let mut faults = Vec::new();
        let own_init = first_of(stack, mount.rw.cache_id()).filter(|below| {
            below.as_str().strip_suffix("-init") == Some(mount.rw.cache_id().as_str())
        });
        if mount.init.is_none() && own_init.is_some() {
            faults.push(missing(MountFile::InitId));
        }
        let lowest = mount.init.as_ref().map(MountId::cache_id).or(own_init);
        let has_image = lowest.is_some_and(|lowest| first_of(stack, lowest).is_some());
        if mount.parent.is_none() && has_image {
            faults.push(missing(MountFile::Parent));
        }
        if !faults.is_empty() {
            let record = DamagedMount {
                rw: Some(mount.rw.clone()),
                init: mount.init.clone().map(Some),
                parent: mount.parent.map(Some),
                faults,
            };
            incomplete.push((id.clone(), record));
        }
    }
    for (id, record) in incomplete {
        store.mounts.sound.remove(&id);
        damaged.insert(id, record);
    }
}

/// The first line of a layer's parent list.
fn first_of<'s>(stack: &'s Stack, id: &CacheId) -> Option<&'s CacheId> {
    let place = *stack.index.get(id)?;
    let parent = (*stack.layers[place].ancestors.first()?)?;
    Some(&stack.layers[parent].id)
}

struct Work<'a> {
    stack: &'a Stack,
    /// The chain of each image layer; `None` if two have it.
    chains: HashMap<&'a CacheId, Option<ChainId>>,
    /// The writable layers that other records name.
    taken: BTreeSet<&'a CacheId>,
}

impl<'a> Work<'a> {
    fn new(store: &'a ImageStore, stack: &'a Stack) -> Self {
        let mut chains: HashMap<&CacheId, Option<ChainId>> = HashMap::new();
        for (chain, layer) in &store.layers.sound {
            chains
                .entry(&layer.cache)
                .and_modify(|known| *known = None)
                .or_insert(Some(*chain));
        }
        let mounts = store.mounts.sound.values();
        Self {
            stack,
            chains,
            taken: mounts.map(|mount| mount.rw.cache_id()).collect(),
        }
    }

    /// The mount of a damaged record; `None` if something remains unknown. `top`: the layers of the container's image,
    /// if the image is known.
    fn rebuild(&self, record: &DamagedMount, top: Option<Below>) -> Option<Mount> {
        let rw = match &record.rw {
            Some(rw) => rw.clone(),
            None => self.rw(record, top)?,
        };
        let init = match &record.init {
            Some(init) => init.clone(),
            None => self.init(&rw)?,
        };
        let parent = match record.parent {
            Some(parent) => parent,
            None => self.parent(init.as_ref().unwrap_or(&rw), top)?,
        };
        Some(Mount { rw, init, parent })
    }

    /// The writable layer: the one above the init layer, or the only one on the image that no record names.
    fn rw(&self, record: &DamagedMount, top: Option<Below>) -> Option<MountId> {
        if let Some(Some(init)) = &record.init {
            let id = init.cache_id().as_str().strip_suffix("-init")?;
            let id = MountId::parse(id.as_bytes()).ok()?;
            let is_on_it = first_of(self.stack, id.cache_id()) == Some(init.cache_id());
            return is_on_it.then_some(id);
        }
        let parent = record.parent.or(top)?;
        let fits = |id: &&CacheId| {
            let init = first_of(self.stack, id);
            let is_pair =
                |init: &&CacheId| init.as_str().strip_suffix("-init") == Some(id.as_str());
            let Some(init) = init.filter(is_pair) else {
                return false;
            };
            let below = first_of(self.stack, init);
            let chain = below.map(|below| self.chains.get(below).copied().flatten());
            !self.taken.contains(*id) && chain == parent.map(Some)
        };
        let mut all = self.stack.layers.iter().map(|layer| &layer.id).filter(fits);
        let found = all.next()?;
        if all.next().is_some() {
            return None;
        }
        MountId::parse(found.as_str().as_bytes()).ok()
    }

    /// The init layer: the one directly below the writable layer.
    fn init(&self, rw: &MountId) -> Option<InitId> {
        let below = first_of(self.stack, rw.cache_id())?;
        let is_pair = below.as_str().strip_suffix("-init") == Some(rw.cache_id().as_str());
        if !is_pair {
            return None;
        }
        Some(Some(MountId::parse(below.as_str().as_bytes()).ok()?))
    }

    /// The chain of the layer below the init layer. It must be the image's, if that is known.
    fn parent(&self, lowest: &MountId, top: Option<Below>) -> Option<Below> {
        self.stack.index.get(lowest.cache_id())?;
        let parent = match first_of(self.stack, lowest.cache_id()) {
            Some(below) => Some((*self.chains.get(below)?)?),
            None => None,
        };
        top.is_none_or(|top| top == parent).then_some(parent)
    }
}

/// The files of a record that must be written again.
fn changes_of(id: &ContainerId, mount: &Mount, record: &DamagedMount) -> Vec<RecordChange> {
    let directory = PathBuf::from("layerdb/mounts").join(id.as_str());
    let is_bad = |file| {
        let mut faults = record.faults.iter();
        faults.any(|(of, _)| of.is_none_or(|of| of == file))
    };
    let content = |text: Option<String>| {
        text.map_or(NewContent::Nothing, |text| {
            NewContent::Bytes(text.into_bytes())
        })
    };
    let files = [
        (MountFile::MountId, Some(mount.rw.to_string())),
        (
            MountFile::InitId,
            mount.init.as_ref().map(ToString::to_string),
        ),
        (MountFile::Parent, mount.parent.map(|id| id.to_string())),
    ];
    let bad = files.into_iter().filter(|(file, _)| is_bad(*file));
    bad.map(|(file, text)| RecordChange {
        path: directory.join(file.name()),
        content: content(text),
    })
    .collect()
}
