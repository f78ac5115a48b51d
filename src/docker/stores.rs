//! All stores of a root, each opened once.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;

use super::container::{Container, read_containers};
use super::diagnostics::{Diagnostics, Subject};
use super::files::{Dir, FileKind};
use super::id::{CacheId, ContainerId};
use super::image_store::ImageStore;
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
}

/// The directories of a root's stores. Until a result is moved into place, they are not all below one directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreDirs<'a> {
    /// The root, in which `containers`, `buildkit` and `graph` are looked up.
    pub(crate) root: &'a Dir,
    /// The image store.
    pub(crate) image: &'a Dir,
    /// The aufs driver's directory, if there is one.
    pub(crate) aufs: Option<&'a Dir>,
}

impl Stores {
    /// Reads each store by itself. What cannot be read is noted, and missing here.
    pub(crate) fn read(
        dirs: StoreDirs<'_>,
        own: fn(&str) -> bool,
        notes: &mut Diagnostics,
    ) -> Self {
        let StoreDirs { root, image, aufs } = dirs;
        Self {
            image: ImageStore::read(image, notes),
            containers: read_containers(root, notes),
            own,
            stack: aufs.map_or_else(Stack::default, |aufs| Stack::read(aufs, notes)),
            graph: read_graph(root, notes),
            buildkit: has_build_cache(root, notes),
        }
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
