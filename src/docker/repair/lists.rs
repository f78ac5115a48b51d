//! Parent lists, and the branches of empty layers, from the image store.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::docker::diagnostics::{Diagnostics, Subject};
use crate::docker::fault::Fault;
use crate::docker::id::{CacheId, DiffId, MountId};
use crate::docker::image_store::ImageStore;
use crate::docker::stack::Stack;

/// What a parent list is rebuilt from.
const STORE: &str = "the image store, whose chain ids prove the order";

/// The digest of a tar without entries: two blocks of zeros.
const EMPTY_TAR: &[u8] = b"sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// Rebuilds damaged parent lists, and does without the branch of a layer whose digest says that it is empty.
pub(in crate::docker) fn rebuild_lists(
    store: &ImageStore,
    stack: &mut Stack,
    notes: &mut Diagnostics,
) {
    let parents = Parents::of(store);
    for place in 0..stack.layers.len() {
        let id = stack.layers[place].id.clone();
        let Some(expected) = parents.ancestors(&id, &stack.index) else {
            continue;
        };
        let Some(fault) = damage(stack, place, &expected) else {
            continue;
        };
        let layer = &mut stack.layers[place];
        layer.list_fault = None;
        layer.ancestors = expected.into_iter().map(Some).collect();
        notes.repaired(Subject::Cache(id), fault, STORE);
    }
    do_without_empty_branches(store, stack, notes);
}

/// What is wrong with a list, if the image store says without doubt what was there. A list that names another layer of
/// aufs contradicts the store, and nothing shows which of the two is right.
fn damage(stack: &mut Stack, place: usize, expected: &[usize]) -> Option<Fault> {
    let path = stack.list_of(&stack.layers[place].id);
    let layer = &mut stack.layers[place];
    if let Some(fault) = layer.list_fault.take() {
        return Some(fault);
    }
    let found = &layer.ancestors;
    let same = found
        .iter()
        .zip(expected)
        .take_while(|(found, expected)| **found == Some(**expected))
        .count();
    let is_cut = same < expected.len() && found.get(same).is_none_or(Option::is_none);
    if !is_cut {
        return None;
    }
    Some(if found.is_empty() {
        Fault::Empty { path }
    } else {
        Fault::ParentListCut {
            path,
            lines: same,
            ancestors: expected.len(),
        }
    })
}

/// The parent of each layer according to the image store; `None` for a layer at the bottom.
struct Parents<'s>(HashMap<&'s CacheId, Option<&'s CacheId>>);

impl<'s> Parents<'s> {
    /// Layers about which two records disagree are not among them.
    fn of(store: &'s ImageStore) -> Self {
        let mut parents: HashMap<&CacheId, Option<Option<&CacheId>>> = HashMap::new();
        let mut add = |id, parent| {
            let known = parents.entry(id).or_insert(Some(parent));
            *known = known.filter(|known| *known == parent);
        };
        for layer in store.layers.sound.values() {
            let below = layer.parent.map(|parent| store.layers.sound.get(&parent));
            match below {
                None => add(&layer.cache, None),
                Some(Some(below)) => add(&layer.cache, Some(&below.cache)),
                Some(None) => {}
            }
        }
        for mount in store.mounts.sound.values() {
            let below = match mount.parent {
                None => None,
                Some(parent) => match store.layers.sound.get(&parent) {
                    Some(below) => Some(&below.cache),
                    None => continue,
                },
            };
            let init = mount.init.as_ref().map(MountId::cache_id);
            if let Some(init) = init {
                add(init, below);
            }
            add(mount.rw.cache_id(), init.or(below));
        }
        let known = parents.into_iter();
        Self(
            known
                .filter_map(|(id, parent)| Some((id, parent?)))
                .collect(),
        )
    }

    /// All ancestors of a layer as indexes, nearest first; `None` if one of them is not known.
    fn ancestors(&self, id: &CacheId, index: &HashMap<CacheId, usize>) -> Option<Vec<usize>> {
        let mut ancestors = Vec::new();
        let mut at = *self.0.get(id)?;
        while let Some(parent) = at {
            // A circle, which only a damaged store has.
            if ancestors.len() > self.0.len() {
                return None;
            }
            ancestors.push(*index.get(parent)?);
            at = *self.0.get(parent)?;
        }
        Some(ancestors)
    }
}

fn do_without_empty_branches(store: &ImageStore, stack: &mut Stack, notes: &mut Diagnostics) {
    let empty = DiffId::parse(EMPTY_TAR).expect("a digest");
    let is_empty = |diff: DiffId| diff == empty;
    let mut content: BTreeMap<&CacheId, BTreeSet<bool>> = BTreeMap::new();
    for layer in store.layers.sound.values() {
        content
            .entry(&layer.cache)
            .or_default()
            .insert(is_empty(layer.diff));
    }
    for (id, content) in content {
        let Some(&place) = stack.index.get(id) else {
            continue;
        };
        if content.contains(&false) || stack.layers[place].branch.is_some() {
            continue;
        }
        let path = stack.branch_of(id);
        stack.layers[place].is_empty = true;
        notes.repaired(
            Subject::Cache(id.clone()),
            Fault::BranchMissing { path },
            "the layer's digest, which is that of an empty layer",
        );
    }
}
