//! The aufs driver's own layers: one parent list each in `aufs/layers`, and their branches in `aufs/diff`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::diagnostics::{Diagnostics, Subject};
use super::fault::Fault;
use super::files::{Dir, DirEntry, FileKind};
use super::id::CacheId;
use super::warning::{Leftover, Warning};
use crate::forest::Forest;
use crate::tree::escape;

/// A layer as the driver knows it, before it is compared with other stores.
#[derive(Debug)]
pub(super) struct ListedLayer {
    pub(super) id: CacheId,
    /// Its parent list: the indexes of the ancestors, nearest first; `None` for an id that aufs does not have.
    pub(super) ancestors: Vec<Option<usize>>,
    /// What is wrong with the list as a file.
    pub(super) list_fault: Option<Fault>,
    /// The index of its direct parent among the layers.
    pub(super) parent: Option<usize>,
    /// What is in the place of its branch; `None`: nothing.
    pub(super) branch: Option<FileKind>,
    /// Whether it needs no branch, because its content is known to be empty.
    pub(super) is_empty: bool,
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
    /// The directory of branches, for messages.
    branches: PathBuf,
}

impl Stack {
    /// Reads every parent list and looks for the branches. `named` are the layers that Docker's stores name. Nothing is
    /// compared before [`link`](Self::link).
    pub(super) fn read(aufs: &Dir, named: &BTreeSet<CacheId>, notes: &mut Diagnostics) -> Self {
        let mut stack = Self {
            lists: aufs.join("layers"),
            branches: aufs.join("diff"),
            ..Self::default()
        };
        let (Some(lists), Some(diff)) = (
            notes.keep(&Subject::Root, aufs.dir_following("layers")),
            notes.keep(&Subject::Root, aufs.dir_following("diff")),
        ) else {
            return stack;
        };
        let entries = notes.keep(&Subject::Root, diff.list()).unwrap_or_default();
        let branches: BTreeMap<CacheId, FileKind> = entries
            .iter()
            .filter_map(|entry| Some((CacheId::parse(entry.name.as_bytes()).ok()?, entry.kind)))
            .collect();
        let listed = stack.listed(&lists, (&branches, named), notes);
        for (id, fault) in listed {
            stack.index.insert(id.clone(), stack.layers.len());
            stack.layers.push(ListedLayer {
                branch: branches.get(&id).copied(),
                id,
                ancestors: Vec::new(),
                list_fault: fault,
                parent: None,
                is_empty: false,
                sound: true,
            });
        }
        stack.warn_of_others(&entries, notes);
        stack.read_lists(&lists);
        stack
    }

    /// The ids of all layers, each with what is wrong with its list. Besides those with a list, these are the branches
    /// that Docker's stores name. What nothing names and has no branch is no layer: other programs leave files and
    /// directories anywhere.
    fn listed(
        &self,
        lists: &Dir,
        (branches, named): (&BTreeMap<CacheId, FileKind>, &BTreeSet<CacheId>),
        notes: &mut Diagnostics,
    ) -> BTreeMap<CacheId, Option<Fault>> {
        let mut listed = BTreeMap::new();
        for id in named.iter().filter(|id| branches.contains_key(*id)) {
            let path = self.list_of(id);
            listed.insert(id.clone(), Some(Fault::Missing { path }));
        }
        for entry in notes.keep(&Subject::Root, lists.list()).unwrap_or_default() {
            let (path, found) = (lists.join(&entry.name), entry.kind);
            let id = CacheId::parse(entry.name.as_bytes()).ok();
            let fault = (found != FileKind::Regular).then(|| Fault::WrongKind {
                path: path.clone(),
                found,
            });
            match id {
                Some(id) if fault.is_none() || named.contains(&id) || is_layer(&id, branches) => {
                    listed.insert(id, fault);
                }
                _ => notes.warn(Warning::Leftover {
                    path,
                    what: Leftover::Unknown,
                }),
            }
        }
        listed
    }

    fn warn_of_others(&self, entries: &[DirEntry], notes: &mut Diagnostics) {
        for entry in entries {
            let id = CacheId::parse(entry.name.as_bytes()).ok();
            if id.is_none_or(|id| !self.index.contains_key(&id)) {
                notes.warn(Warning::Leftover {
                    path: self.branches.join(&entry.name),
                    what: leftover_branch(&entry.name),
                });
            }
        }
    }

    fn read_lists(&mut self, lists: &Dir) {
        for place in 0..self.layers.len() {
            if self.layers[place].list_fault.is_some() {
                continue;
            }
            let read = self.read_list(lists, &self.layers[place].id);
            let layer = &mut self.layers[place];
            match read {
                Ok(ancestors) => layer.ancestors = ancestors,
                Err(fault) => layer.list_fault = Some(fault),
            }
        }
    }

    /// Reads one parent list. Only its first line defines the parent, so only that one must exist. Blank lines are
    /// skipped, as the driver does. Source: moby v20.10 `daemon/graphdriver/aufs/dirs.go`.
    fn read_list(&self, lists: &Dir, id: &CacheId) -> Result<Vec<Option<usize>>, Fault> {
        let text = lists.read(id.as_str())?;
        let path = || self.list_of(id);
        let lines = text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        let mut ancestors = Vec::new();
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

    /// Finds the parents, and checks the lists against each other and the branches. Repairs come before.
    pub(super) fn link(&mut self, notes: &mut Diagnostics) {
        for layer in &mut self.layers {
            if let Some(fault) = layer.list_fault.take() {
                layer.sound = false;
                notes.fault(Subject::Cache(layer.id.clone()), fault);
            }
            layer.parent = layer.ancestors.first().copied().flatten();
        }
        self.find_cycles(notes);
        self.compare_lists(notes);
        self.check_branches(notes);
        self.spread_damage();
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
    fn compare_lists(&mut self, notes: &mut Diagnostics) {
        for place in 0..self.layers.len() {
            let Some(parent) = self.layers[place].parent else {
                continue;
            };
            let (child, below) = (&self.layers[place], &self.layers[parent]);
            if child.sound && below.sound && child.ancestors[1..] != below.ancestors[..] {
                let (id, parent) = (child.id.clone(), below.id.clone());
                self.layers[place].sound = false;
                let path = self.list_of(&id);
                notes.fault(
                    Subject::Cache(id),
                    Fault::ParentListMismatch { path, parent },
                );
            }
        }
    }

    fn check_branches(&mut self, notes: &mut Diagnostics) {
        for layer in &mut self.layers {
            let path = || self.branches.join(layer.id.as_str());
            let fault = match layer.branch {
                Some(FileKind::Directory) => continue,
                None if layer.is_empty => continue,
                None => Fault::BranchMissing { path: path() },
                Some(found) => Fault::WrongKind {
                    path: path(),
                    found,
                },
            };
            layer.sound = false;
            notes.fault(Subject::Cache(layer.id.clone()), fault);
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

    /// A layer's branch, for messages.
    pub(super) fn branch_of(&self, id: &CacheId) -> PathBuf {
        self.branches.join(id.as_str())
    }

    /// A layer's parent list, for messages.
    pub(super) fn list_of(&self, id: &CacheId) -> PathBuf {
        self.lists.join(id.as_str())
    }
}

/// Whether a name is Docker's own for a layer, and a branch has it too.
fn is_layer(id: &CacheId, branches: &BTreeMap<CacheId, FileKind>) -> bool {
    id.is_dockers() && branches.contains_key(id)
}

fn leftover_branch(name: &OsStr) -> Leftover {
    if name.as_bytes().ends_with(b"-removing") {
        Leftover::Removal
    } else {
        Leftover::Branch
    }
}
