//! The aufs driver's own layers: one parent list each in `aufs/layers`, and their branches in `aufs/diff`.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::diagnostics::{Diagnostics, Subject};
use super::fault::Fault;
use super::files::{Dir, FileKind};
use super::id::CacheId;
use super::warning::{Leftover, Warning};
use crate::forest::Forest;
use crate::tree::escape;

/// A layer as the driver knows it, before it is compared with other stores.
#[derive(Debug)]
pub(super) struct ListedLayer {
    pub(super) id: CacheId,
    /// The index of its direct parent among the layers.
    pub(super) parent: Option<usize>,
    /// Whether the layer and its parents can be converted.
    pub(super) sound: bool,
}

/// All layers of the driver.
#[derive(Debug, Default)]
pub(crate) struct Stack {
    /// Sorted by id.
    pub(super) layers: Vec<ListedLayer>,
    pub(super) index: HashMap<CacheId, usize>,
    /// The directory of parent lists, for messages.
    lists: PathBuf,
}

/// One parent list: the indexes of the ancestors, nearest first; `None` for an id that aufs does not have.
type Ancestors = Vec<Option<usize>>;

impl Stack {
    /// Reads every parent list and checks it against its parent's list and against the branches.
    pub(super) fn read(aufs: &Dir, notes: &mut Diagnostics) -> Self {
        let mut stack = Self {
            lists: aufs.join("layers"),
            ..Self::default()
        };
        let Some(lists) = notes.keep(&Subject::Root, aufs.dir("layers")) else {
            return stack;
        };
        stack.list_names(&lists, notes);
        let ancestors = stack.read_lists(&lists, notes);
        stack.find_cycles(notes);
        stack.compare_lists(&ancestors, notes);
        stack.check_branches(aufs, notes);
        stack.spread_damage();
        stack
    }

    fn list_names(&mut self, lists: &Dir, notes: &mut Diagnostics) {
        for entry in notes.keep(&Subject::Root, lists.list()).unwrap_or_default() {
            let path = || lists.join(&entry.name);
            match CacheId::parse(entry.name.as_bytes()) {
                Err(source) => notes.fault(
                    Subject::Nothing,
                    Fault::BadName {
                        path: path(),
                        source,
                    },
                ),
                Ok(id) => {
                    let sound = entry.kind == FileKind::Regular;
                    if !sound {
                        let fault = Fault::WrongKind {
                            path: path(),
                            found: entry.kind,
                        };
                        notes.fault(Subject::Cache(id.clone()), fault);
                    }
                    self.index.insert(id.clone(), self.layers.len());
                    self.layers.push(ListedLayer {
                        id,
                        parent: None,
                        sound,
                    });
                }
            }
        }
    }

    fn read_lists(&mut self, lists: &Dir, notes: &mut Diagnostics) -> Vec<Ancestors> {
        let mut all = Vec::with_capacity(self.layers.len());
        for place in 0..self.layers.len() {
            let mut ancestors = Ancestors::new();
            if self.layers[place].sound {
                let id = self.layers[place].id.clone();
                let read = self.read_list(lists, &id);
                match notes.keep(&Subject::Cache(id), read) {
                    Some(list) => ancestors = list,
                    None => self.layers[place].sound = false,
                }
            }
            self.layers[place].parent = ancestors.first().copied().flatten();
            all.push(ancestors);
        }
        all
    }

    /// Reads one parent list. Only its first line defines the parent, so only that one must exist. Blank lines are
    /// skipped, as the driver does. Source: moby v20.10 `daemon/graphdriver/aufs/dirs.go`.
    fn read_list(&self, lists: &Dir, id: &CacheId) -> Result<Ancestors, Fault> {
        let text = lists.read(id.as_str())?;
        let path = || self.list_of(id);
        let lines = text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        let mut ancestors = Ancestors::new();
        for line in lines {
            let parent = CacheId::parse(line).map_err(|source| {
                let value = escape(&line[..line.len().min(80)]);
                Fault::BadId {
                    path: path(),
                    value,
                    source,
                }
            })?;
            let place = self.index.get(&parent).copied();
            if place.is_none() && ancestors.is_empty() {
                return Err(Fault::ParentMissing {
                    path: path(),
                    parent,
                });
            }
            ancestors.push(place);
        }
        Ok(ancestors)
    }

    /// Finds layers that are their own ancestors.
    fn find_cycles(&mut self, notes: &mut Diagnostics) {
        for place in self.forest().circles().into_iter().flatten() {
            self.layers[place].sound = false;
            let id = self.layers[place].id.clone();
            let path = self.list_of(&id);
            notes.fault(Subject::Cache(id), Fault::ParentCycle { path });
        }
    }

    /// Checks that each list is the parent followed by the parent's own list. Anything else is damage. A guess at which
    /// of the two is right could show a container other files than before.
    fn compare_lists(&mut self, ancestors: &[Ancestors], notes: &mut Diagnostics) {
        for place in 0..self.layers.len() {
            let Some(parent) = self.layers[place].parent else {
                continue;
            };
            let comparable = self.layers[place].sound && self.layers[parent].sound;
            if comparable && ancestors[place][1..] != ancestors[parent][..] {
                self.layers[place].sound = false;
                let id = self.layers[place].id.clone();
                let parent = self.layers[parent].id.clone();
                let path = self.list_of(&id);
                notes.fault(
                    Subject::Cache(id),
                    Fault::ParentListMismatch { path, parent },
                );
            }
        }
    }

    fn check_branches(&mut self, aufs: &Dir, notes: &mut Diagnostics) {
        let Some(diff) = notes.keep(&Subject::Root, aufs.dir("diff")) else {
            return;
        };
        let Some(entries) = notes.keep(&Subject::Root, diff.list()) else {
            return;
        };
        let mut has_branch = vec![false; self.layers.len()];
        for entry in entries {
            let path = || diff.join(&entry.name);
            let id = CacheId::parse(entry.name.as_bytes()).ok();
            match id.and_then(|id| self.index.get(&id).copied()) {
                None => notes.warn(Warning::Leftover {
                    path: path(),
                    what: leftover_branch(&entry.name),
                }),
                Some(place) => {
                    has_branch[place] = true;
                    if entry.kind != FileKind::Directory {
                        self.layers[place].sound = false;
                        let subject = Subject::Cache(self.layers[place].id.clone());
                        notes.fault(
                            subject,
                            Fault::WrongKind {
                                path: path(),
                                found: entry.kind,
                            },
                        );
                    }
                }
            }
        }
        for place in (0..self.layers.len()).filter(|place| !has_branch[*place]) {
            self.layers[place].sound = false;
            let id = self.layers[place].id.clone();
            let path = diff.join(id.as_str());
            notes.fault(Subject::Cache(id), Fault::BranchMissing { path });
        }
    }

    /// Marks the layers on top of a damaged one as damaged, because they cannot be converted either. The fault is
    /// reported once, at the damaged layer.
    fn spread_damage(&mut self) {
        let forest = self.forest();
        for place in forest.by_level() {
            let parent = self.layers[place].parent;
            if parent.is_some_and(|parent| !self.layers[parent].sound) {
                self.layers[place].sound = false;
            }
        }
        for place in forest.on_circles() {
            self.layers[place].sound = false;
        }
    }

    /// Indexes of all layers, each after its parent. Layers in or above a circle are left out.
    pub(super) fn parents_first(&self) -> Vec<usize> {
        self.forest().by_level()
    }

    fn forest(&self) -> Forest {
        Forest::new(self.layers.iter().map(|layer| layer.parent).collect())
    }

    /// Indexes of the layers that are the parent of another one.
    pub(super) fn with_children(&self) -> HashSet<usize> {
        self.layers
            .iter()
            .filter_map(|layer| layer.parent)
            .collect()
    }

    /// The direct parent of a layer.
    pub(super) fn parent_of(&self, place: usize) -> Option<&CacheId> {
        self.layers[place]
            .parent
            .map(|parent| &self.layers[parent].id)
    }

    /// A layer's parent list, for messages.
    pub(super) fn list_of(&self, id: &CacheId) -> PathBuf {
        self.lists.join(id.as_str())
    }
}

fn leftover_branch(name: &OsStr) -> Leftover {
    if name.as_bytes().ends_with(b"-removing") {
        Leftover::Removal
    } else {
        Leftover::Branch
    }
}
