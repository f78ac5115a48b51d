//! Records of image layers, from the images' configs and from the driver's lists.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use super::record_change::{NewContent, RecordChange};
use crate::docker::diagnostics::{Diagnostics, Subject};
use crate::docker::fault::Fault;
use crate::docker::id::{CacheId, ChainId, DiffId};
use crate::docker::image::Step;
use crate::docker::image_store::ImageStore;
use crate::docker::layer::{DamagedRecord, Layer, RecordFile};
use crate::docker::stack::Stack;
use crate::units::Bytes;

/// What the files of a record are rebuilt from.
const CONFIGS: &str = "the images' configs, which its chain id proves";
const FROM_LISTS: &str = "the parent list of a layer above it";
const SIZES: &str = "the sizes of its files";
const NOT_NEEDED: &str = "nothing: it is left out, because Docker works without it";

/// Says whether the tar that is recorded for a chain, put together from the files of a branch, has this digest.
pub type Proof<'a> = &'a (dyn Fn(&CacheId, ChainId, DiffId) -> bool + Sync);

/// Rebuilds damaged and missing records of image layers. Returns the files that the new store has in another form.
pub(in crate::docker) fn rebuild_records(
    store: &mut ImageStore,
    stack: &Stack,
    proof: Proof<'_>,
    notes: &mut Diagnostics,
) -> Vec<RecordChange> {
    let mut changes = Vec::new();
    let missing: Vec<ChainId> = store
        .images
        .chains
        .keys()
        .filter(|chain| !store.layers.present.contains(chain))
        .copied()
        .collect();
    let mut damaged = std::mem::take(&mut store.layers.damaged);
    for chain in missing {
        damaged.insert(chain, DamagedRecord::default());
    }
    take_wrong(store, &mut damaged);
    let mut rebuilt = true;
    // Each record that is rebuilt may show where the next one is: a chain is rebuilt from the top or from the bottom.
    while rebuilt {
        rebuilt = false;
        let work = Work {
            found: Found::of(store, &damaged, stack),
            store: &*store,
            stack,
            proof,
        };
        let mut done = Vec::new();
        for (&chain, record) in &damaged {
            if let Some(layer) = work.rebuild(chain, record) {
                done.push((chain, layer));
            }
        }
        for (chain, (layer, source)) in done {
            let record = damaged.remove(&chain).unwrap_or_default();
            changes.extend(changes_of(chain, &layer, &record));
            report(chain, record, source, store, notes);
            store.layers.present.insert(chain);
            store.layers.sound.insert(chain, layer);
            rebuilt = true;
        }
    }
    // A record that does not exist is no damaged record: the image without it is reported.
    damaged.retain(|_, record| !record.faults.is_empty());
    store.layers.damaged = damaged;
    changes
}

/// Takes out the records whose `diff` and `parent` do not make their chain id, if an image's config says what does.
fn take_wrong(store: &mut ImageStore, damaged: &mut BTreeMap<ChainId, DamagedRecord>) {
    let wrong: Vec<ChainId> = store
        .layers
        .sound
        .iter()
        .filter(|(chain, layer)| {
            ChainId::on(layer.parent, layer.diff) != **chain
                && store.images.chains.contains_key(chain)
        })
        .map(|(chain, _)| *chain)
        .collect();
    for chain in wrong {
        let (Some(layer), Some(step)) = (
            store.layers.sound.remove(&chain),
            store.images.chains.get(&chain),
        ) else {
            continue;
        };
        let path = store.layers.dir_of(chain);
        let computed = ChainId::on(layer.parent, layer.diff);
        let fault = || Fault::ChainMismatch {
            path: path.clone(),
            computed,
        };
        let mut faults = Vec::new();
        if layer.diff != step.diff {
            faults.push((Some(RecordFile::Diff), fault()));
        }
        if layer.parent != step.parent {
            faults.push((Some(RecordFile::Parent), fault()));
        }
        damaged.insert(
            chain,
            DamagedRecord {
                cache: Some(layer.cache),
                diff: Some(step.diff),
                parent: Some(step.parent),
                size: Some(layer.size),
                faults,
            },
        );
    }
}

/// What the driver's lists show about the layers of damaged records.
struct Found {
    /// Layers of aufs that a record or a mount names.
    named: BTreeSet<CacheId>,
    /// The layer of each chain, as the parent lists of the layers on top of it name it; `None` if they disagree.
    below: HashMap<ChainId, Option<CacheId>>,
    /// The chain of each layer.
    chains: HashMap<CacheId, ChainId>,
}

impl Found {
    fn of(store: &ImageStore, damaged: &BTreeMap<ChainId, DamagedRecord>, stack: &Stack) -> Self {
        let sound = store.layers.sound.iter();
        let sound = sound.map(|(chain, layer)| (*chain, &layer.cache, layer.parent));
        let partly = damaged.iter().filter_map(|(chain, record)| {
            let step = store.images.chains.get(chain);
            let parent = step.map(|step| step.parent).or(record.parent)?;
            Some((*chain, record.cache.as_ref()?, parent))
        });
        let mut found = Self {
            named: BTreeSet::new(),
            below: HashMap::new(),
            chains: HashMap::new(),
        };
        for (chain, cache, parent) in sound.chain(partly) {
            found.named.insert(cache.clone());
            found.chains.insert(cache.clone(), chain);
            if let Some(parent) = parent {
                found.note_below(parent, first_of(stack, cache));
            }
        }
        for mount in store.mounts.sound.values() {
            let init = mount.init.as_ref().unwrap_or(&mount.rw).cache_id();
            if let Some(parent) = mount.parent {
                found.note_below(parent, first_of(stack, init));
            }
            found.named.insert(mount.rw.cache_id().clone());
            found.named.insert(init.clone());
        }
        found
    }

    fn note_below(&mut self, chain: ChainId, cache: Option<&CacheId>) {
        let Some(cache) = cache else { return };
        let known = self
            .below
            .entry(chain)
            .or_insert_with(|| Some(cache.clone()));
        if known.as_ref().is_some_and(|known| known != cache) {
            *known = None;
        }
    }
}

/// The first line of a layer's parent list.
fn first_of<'s>(stack: &'s Stack, id: &CacheId) -> Option<&'s CacheId> {
    let place = *stack.index.get(id)?;
    let parent = (*stack.layers[place].ancestors.first()?)?;
    Some(&stack.layers[parent].id)
}

struct Work<'a> {
    found: Found,
    store: &'a ImageStore,
    stack: &'a Stack,
    proof: Proof<'a>,
}

impl Work<'_> {
    /// The layer of a damaged record, and what it was found by; `None` if something remains unknown.
    fn rebuild(&self, chain: ChainId, record: &DamagedRecord) -> Option<(Layer, &'static str)> {
        let step = self.step(chain, record)?;
        let (cache, source) = match &record.cache {
            Some(cache) => (cache.clone(), CONFIGS),
            None => (self.cache(chain, step, record)?, FROM_LISTS),
        };
        // With a missing record, nothing may be built on something that is missing itself.
        if let Some(parent) = step.parent
            && !self.store.layers.sound.contains_key(&parent)
            && record.faults.is_empty()
        {
            return None;
        }
        let layer = Layer {
            diff: step.diff,
            parent: step.parent,
            cache,
            size: record.size.unwrap_or(Bytes(0)),
        };
        Some((layer, source))
    }

    /// The content and the parent of a chain, proven by its id.
    fn step(&self, chain: ChainId, record: &DamagedRecord) -> Option<Step> {
        if let Some(step) = self.store.images.chains.get(&chain) {
            return Some(*step);
        }
        let diff = record.diff?;
        let below = record.cache.as_ref().and_then(|cache| {
            let parent = first_of(self.stack, cache)?;
            self.found.chains.get(parent).copied()
        });
        let parents = [record.parent.flatten(), below, None];
        let mut steps = parents.into_iter().map(|parent| Step { parent, diff });
        steps.find(|step| ChainId::on(step.parent, step.diff) == chain)
    }

    /// The layer of aufs that belongs to a chain.
    fn cache(&self, chain: ChainId, step: Step, record: &DamagedRecord) -> Option<CacheId> {
        if let Some(named) = self.found.below.get(&chain) {
            let cache = named.as_ref()?;
            let is_free = !self.found.named.contains(cache);
            return (is_free && self.stack.index.contains_key(cache)).then(|| cache.clone());
        }
        // Without a record, there is no record of a tar either, so nothing could be proven.
        if record.faults.is_empty() {
            return None;
        }
        let below = match step.parent {
            Some(parent) => Some(&self.store.layers.sound.get(&parent)?.cache),
            None => None,
        };
        // Only the digest shows that a layer which nothing names is this one.
        let fits = |id: &&CacheId| {
            !self.found.named.contains(*id)
                && !id.is_init()
                && first_of(self.stack, id) == below
                && (self.proof)(id, chain, step.diff)
        };
        let mut all = self.stack.layers.iter().map(|layer| &layer.id);
        all.find(fits).cloned()
    }
}

/// The files of a record that must be written again.
fn changes_of(chain: ChainId, layer: &Layer, record: &DamagedRecord) -> Vec<RecordChange> {
    let directory = PathBuf::from("layerdb/sha256").join(chain.file_name());
    let text = |text: String| NewContent::Bytes(text.into_bytes());
    let is_bad = |file| {
        let mut faults = record.faults.iter();
        record.faults.is_empty() || faults.any(|(of, _)| of.is_none_or(|of| of == file))
    };
    let mut files = Vec::new();
    if is_bad(RecordFile::CacheId) {
        files.push((RecordFile::CacheId, text(layer.cache.to_string())));
    }
    if is_bad(RecordFile::Diff) {
        files.push((RecordFile::Diff, text(layer.diff.to_string())));
    }
    if is_bad(RecordFile::Parent) {
        let parent = layer.parent.map(|parent| text(parent.to_string()));
        files.push((RecordFile::Parent, parent.unwrap_or(NewContent::Nothing)));
    }
    if is_bad(RecordFile::Size) {
        files.push((RecordFile::Size, NewContent::SizeOf(chain)));
    }
    if !record.faults.is_empty() && is_bad(RecordFile::Descriptor) {
        files.push((RecordFile::Descriptor, NewContent::Nothing));
    }
    let change = |(file, content): (RecordFile, NewContent)| RecordChange {
        path: directory.join(file.name()),
        content,
    };
    files.into_iter().map(change).collect()
}

fn report(
    chain: ChainId,
    record: DamagedRecord,
    source: &'static str,
    store: &ImageStore,
    notes: &mut Diagnostics,
) {
    let subject = Subject::Chain(chain);
    if record.faults.is_empty() {
        let path = store.layers.dir_of(chain);
        notes.repaired(subject, Fault::Missing { path }, source);
        return;
    }
    for (file, fault) in record.faults {
        let source = match file {
            Some(RecordFile::Size) => SIZES,
            Some(RecordFile::Descriptor) => NOT_NEEDED,
            Some(RecordFile::Diff | RecordFile::Parent) => CONFIGS,
            _ => source,
        };
        notes.repaired(subject.clone(), fault, source);
    }
}
