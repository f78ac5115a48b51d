//! All stores of a root, each opened once.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;

use super::container::{Container, read_containers};
use super::diagnostics::{Diagnostics, Subject};
use super::files::{Dir, FileKind};
use super::id::{CacheId, ContainerId};
use super::image_store::ImageStore;
use super::repair::{Proof, RecordChange, rebuild_lists, rebuild_mounts, rebuild_records};
use super::stack::Stack;

/// Everything that was read from a root.
#[derive(Debug)]
pub(crate) struct Stores {
    pub(crate) image: ImageStore,
    pub(crate) containers: BTreeMap<ContainerId, Container>,
    /// Whether a container with this driver belongs to this root.
    pub(super) own: fn(&str) -> bool,
    pub(crate) stack: Stack,
    /// Image ids of the store before Docker 1.10.
    pub(super) graph: BTreeSet<CacheId>,
    /// Whether there is a build cache.
    pub(crate) buildkit: bool,
    /// The files of the image store that repairs change.
    pub(super) changes: Vec<RecordChange>,
}

/// What is made good while the stores are read.
#[derive(Clone, Copy)]
pub(crate) enum Repairs<'a> {
    /// Nothing.
    Off,
    /// Parent lists, which only the driver of the original side reads.
    Lists,
    /// Everything that other parts of the stores prove.
    All(Proof<'a>),
}

/// The directories of a root's stores. Until a result is moved into place, they are not all below one directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreDirs<'a> {
    /// The root, in which `containers`, `buildkit` and `graph` are looked up.
    pub(crate) root: &'a Dir,
    /// The image store, if there is one.
    pub(crate) image: Option<&'a Dir>,
    /// The aufs driver's directory, if there is one.
    pub(crate) aufs: Option<&'a Dir>,
}

impl Stores {
    /// Reads each store by itself. What cannot be read is noted, and missing here.
    pub(crate) fn read(
        dirs: StoreDirs<'_>,
        own: fn(&str) -> bool,
        repairs: Repairs<'_>,
        notes: &mut Diagnostics,
    ) -> Self {
        let StoreDirs { root, image, aufs } = dirs;
        let mut stores = Self {
            image: image.map_or_else(ImageStore::default, |image| {
                ImageStore::read_parts(image, notes)
            }),
            containers: read_containers(root, notes),
            own,
            stack: Stack::default(),
            graph: read_graph(root, notes),
            buildkit: has_build_cache(root, notes),
            changes: Vec::new(),
        };
        if let Some(aufs) = aufs {
            stores.stack = Stack::read(aufs, &stores.named(), notes);
        }
        stores.repair(repairs, notes);
        stores.image.report(notes);
        stores.stack.link(notes);
        stores
    }

    /// Makes damaged parts good. Records come before lists, which are rebuilt from them.
    fn repair(&mut self, repairs: Repairs<'_>, notes: &mut Diagnostics) {
        if let Repairs::All(proof) = repairs {
            let store = &mut self.image;
            let records = rebuild_records(store, &self.stack, proof, notes);
            let mounts = rebuild_mounts(store, &self.stack, &self.containers, notes);
            self.changes.extend(records.into_iter().chain(mounts));
            let by_id = &store.images.by_id;
            let has_image = |image| by_id.contains_key(&image);
            if store.names.rebuild(self.containers.values(), has_image) {
                notes.repair(
                    &Subject::References,
                    "its valid names, and those from which containers were created",
                );
            }
        }
        if !matches!(repairs, Repairs::Off) {
            rebuild_lists(&self.image, &mut self.stack, notes);
        }
    }

    /// The driver's layers that a store names, whether or not the driver has them.
    fn named(&self) -> BTreeSet<CacheId> {
        let layers = &self.image.layers;
        let of_layers = layers.sound.values().map(|layer| &layer.cache);
        let damaged = layers.damaged.values();
        let of_layers = of_layers.chain(damaged.filter_map(|record| record.cache.as_ref()));
        let mut named: BTreeSet<CacheId> = of_layers.cloned().collect();
        for mount in self.image.mounts.sound.values() {
            let init = mount.init.as_ref();
            let both = init.into_iter().chain([&mount.rw]);
            named.extend(both.map(|id| id.cache_id().clone()));
        }
        for mount in self.image.mounts.damaged.values() {
            let init = mount.init.iter().flatten();
            let both = init.chain(&mount.rw);
            named.extend(both.map(|id| id.cache_id().clone()));
        }
        named
    }
}

/// Images of the store before Docker 1.10, which later versions migrated and left in place.
fn read_graph(root: &Dir, notes: &mut Diagnostics) -> BTreeSet<CacheId> {
    let entries = notes
        .keep(&Subject::Root, root.list_if_any("graph"))
        .unwrap_or_default();
    let names = entries
        .iter()
        .map(|entry| CacheId::parse(entry.name.as_bytes()));
    names.filter_map(Result::ok).collect()
}

fn has_build_cache(root: &Dir, notes: &mut Diagnostics) -> bool {
    let buildkit = notes
        .keep(&Subject::Root, root.dir_following_if_any("buildkit"))
        .flatten();
    let database = buildkit.and_then(|dir| notes.keep(&Subject::Root, dir.kind("snapshots.db")));
    database.flatten() == Some(FileKind::Regular)
}
