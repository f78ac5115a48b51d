//! Reads a whole root and reports everything that is wrong in one pass.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::container::Container;
use super::diagnostics::{Diagnostics, Subject};
use super::driver::is_aufs;
use super::error::Error;
use super::fault::Fault;
use super::files::Dir;
use super::id::{CacheId, ContainerId};
use super::left_out::LeftOut;
use super::model::{AufsLayer, Model, OrphanReason, Use};
use super::problem::{Class, Problem};
use super::repair::Proof;
use super::root::{Root, RootParts};
use super::stack::Stack;
use super::stores::{Repairs, StoreDirs, Stores};
use super::users::{Hits, Users};
use super::warning::{Leftover, Warning};

/// What to do with layers that nothing refers to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Orphans {
    /// They are converted like all others.
    #[default]
    Convert,
    /// They are left out, and damage to them is only a warning.
    LeaveOut,
}

/// The result of reading a root: the model of its sound parts, and what is wrong with the rest.
#[derive(Debug)]
pub struct Survey {
    /// The sound parts. Only [`into_model`](Self::into_model) says whether they are complete.
    pub(super) model: Model,
    path: PathBuf,
}

impl Survey {
    /// Reads a root. What cannot be read is among the [`problems`](Self::problems). Nothing is proven by reading
    /// branches.
    pub fn read(root: &Root) -> Self {
        Self::with(root, Repairs::All(&|_, _, _| false))
    }

    /// [`read`](Self::read), without making anything good.
    pub fn without_repairs(root: &Root) -> Self {
        Self::with(root, Repairs::Off)
    }

    /// [`read`](Self::read), with a proof that a layer which no record names belongs to a damaged record.
    pub fn with_proof(root: &Root, proof: Proof<'_>) -> Self {
        Self::with(root, Repairs::All(proof))
    }

    /// Reads as much as there is of a root of which parts are missing or cannot be used.
    pub fn of_parts(parts: &RootParts) -> Self {
        let dirs = StoreDirs {
            root: &parts.data.dir,
            image: parts.image.as_ref(),
            aufs: parts.aufs.as_ref(),
        };
        let proof = &|_: &CacheId, _, _| false;
        let mut survey = Self::of_dirs(parts.data.path(), dirs, Repairs::All(proof));
        let missing = parts.missing.iter().map(|path| Problem {
            subject: Subject::Root,
            fault: Fault::Missing { path: path.clone() },
            hits: Hits {
                everything: true,
                ..Hits::default()
            },
            class: Class::WholeRoot,
            source: None,
        });
        survey.model.problems.extend(missing);
        survey
    }

    fn with(root: &Root, repairs: Repairs<'_>) -> Self {
        let dirs = StoreDirs {
            root: &root.data.dir,
            image: Some(&root.image),
            aufs: Some(&root.aufs),
        };
        Self::of_dirs(root.path(), dirs, repairs)
    }

    fn of_dirs(path: &Path, dirs: StoreDirs<'_>, repairs: Repairs<'_>) -> Self {
        let mut notes = Diagnostics::default();
        if let Some(aufs) = dirs.aufs {
            warn_of_unmounted(aufs, &mut notes);
        }
        let stores = Stores::read(dirs, is_aufs, repairs, &mut notes);
        // The order is one of knowledge. Each store is read by itself first, so that the checks across them can tell a
        // name that leads nowhere from one that leads to something damaged, whose fault is named once, where it is.
        // Only when all faults are known, and who needs what, can damage be told from what an interruption left.
        stores.check(&mut notes);
        stores.image.check_images(&mut notes);
        let users = stores.users();
        let (problems, warnings) = settle(notes, &users, &stores.stack);
        // Before the stores are taken apart: an orphan is what none of them names.
        let aufs = convertible(&stores);
        let index = aufs
            .iter()
            .enumerate()
            .map(|(place, layer)| (layer.id.clone(), place))
            .collect();
        let model = Model {
            images: stores.image.images.by_id,
            references: stores.image.names.references.clone(),
            names: stores.image.names,
            changes: stores.changes,
            problems,
            left_out: LeftOut::default(),
            layers: stores.image.layers.sound,
            mounts: stores.image.mounts.sound,
            containers: stores.containers,
            aufs,
            buildkit: stores.buildkit,
            warnings,
            users,
            index,
        };
        Self {
            model,
            path: path.to_path_buf(),
        }
    }

    /// All problems.
    pub fn problems(&self) -> &[Problem] {
        &self.model.problems
    }

    /// Further facts that the operator should know.
    pub fn warnings(&self) -> &[Warning] {
        &self.model.warnings
    }

    /// Containers with a readable config, of any driver.
    pub fn containers(&self) -> impl Iterator<Item = (&ContainerId, &Container)> {
        self.model.containers.iter()
    }

    /// The model of what can be converted: without what is damaged and everything that is built on it. Whether that may
    /// be left out is for the caller to decide, by the classes of the model's problems.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the problems that affect the root as a whole.
    pub fn into_model(self, orphans: Orphans) -> Result<Model, Error> {
        let Self { mut model, path } = self;
        if model
            .problems
            .iter()
            .any(|problem| problem.class == Class::WholeRoot)
        {
            let is_of_all = |problem: &mut Problem| problem.class == Class::WholeRoot;
            let problems = model.problems.extract_if(.., is_of_all).collect();
            return Err(Error::Damaged { path, problems });
        }
        let is_out =
            |problem: &&Problem| matches!(problem.class, Class::Damaged | Class::PassedOver);
        let out = model.problems.iter().filter(is_out);
        let subjects: Vec<_> = out.map(|problem| problem.subject.clone()).collect();
        model.leave_out(&subjects);
        if orphans == Orphans::LeaveOut {
            // Damage is waived by whom it hits, not by where it lies: a damaged layer that nothing names may carry one
            // that an image needs.
            let is_unused = |problem: &mut Problem| {
                problem.class == Class::PassedOver
                    && matches!(problem.subject, Subject::Cache(_))
                    && problem.hits.is_empty()
            };
            let unused = model.problems.extract_if(.., is_unused);
            let warnings = unused.map(|problem| Warning::UnusedDamage {
                fault: problem.fault,
            });
            model.warnings.extend(warnings);
            // The parent of a layer in use is in use itself, so no layer that stays loses its parent.
            model.retain(|layer| layer.orphan.is_none());
        }
        Ok(model)
    }
}

/// Warns about mount points that a deletion has renamed. Stale ones with other names are common and mean nothing.
fn warn_of_unmounted(aufs: &Dir, notes: &mut Diagnostics) {
    for entry in notes
        .keep(&Subject::Root, aufs.list_if_any("mnt"))
        .unwrap_or_default()
    {
        if entry.name.as_bytes().ends_with(b"-removing") {
            let path = aufs.join("mnt").join(entry.name);
            notes.warn(Warning::Leftover {
                path,
                what: Leftover::Removal,
            });
        }
    }
}

/// Sorts faults into problems, with the images and containers they affect, and remains of interrupted work, which are
/// only worth a warning.
pub(crate) fn settle(
    notes: Diagnostics,
    users: &Users,
    stack: &Stack,
) -> (Vec<Problem>, Vec<Warning>) {
    let Diagnostics {
        faults,
        repaired,
        mut warnings,
    } = notes;
    let with_children: HashSet<_> = stack
        .with_children()
        .into_iter()
        .map(|place| &stack.layers[place].id)
        .collect();
    let mut problems = Vec::new();
    for (subject, fault) in faults {
        let hits = users.hits(&subject);
        // The kind of fault alone decides nothing: a branch may be missing after a deletion that was killed, or through
        // damage. It is the remains of a deletion only if, besides, nobody needs the object.
        let interrupted = match (&subject, &fault) {
            // A container is made and deleted in steps, its mount first and last.
            (Subject::Mount(_), _) => true,
            // A layer's branch and its parent list cannot go at the same moment.
            (Subject::Cache(id), Fault::BranchMissing { .. } | Fault::Missing { .. }) => {
                !with_children.contains(id)
            }
            _ => false,
        };
        if interrupted && hits.is_empty() {
            warnings.push(Warning::Interrupted { fault });
        } else {
            problems.push(Problem {
                class: Class::of(&subject, &fault, &hits),
                subject,
                fault,
                hits,
                source: None,
            });
        }
    }
    problems.extend(repaired.into_iter().map(|made_good| Problem {
        hits: users.hits(&made_good.subject),
        subject: made_good.subject,
        fault: made_good.fault,
        class: Class::Rebuilt,
        source: Some(made_good.source),
    }));
    (problems, warnings)
}

/// The sound layers, parents first, without those whose deletion was under way.
fn convertible(stores: &Stores) -> Vec<AufsLayer> {
    let stack = &stores.stack;
    let mut uses = stores.uses();
    let order = stack.parents_first();
    let mut used: Vec<bool> = uses.iter().map(|uses| !uses.is_empty()).collect();
    let mut kept: Vec<bool> = stack
        .layers
        .iter()
        .map(|layer| !stores.image.layers.removing.contains(&layer.id))
        .collect();
    // Children first, so one pass does: when it is a layer's turn, all that stands on it has had its own. A layer in
    // use keeps itself and its parents even if its deletion had begun. An orphan keeps its parents, but puts none of
    // them in use.
    for &place in order.iter().rev() {
        kept[place] |= used[place];
        if let Some(parent) = stack.layers[place].parent {
            used[parent] |= used[place];
            kept[parent] |= kept[place];
        }
    }
    let mut places = vec![None; stack.layers.len()];
    let mut layers = Vec::with_capacity(order.len());
    for place in order {
        let layer = &stack.layers[place];
        if !layer.sound || !kept[place] {
            continue;
        }
        places[place] = Some(layers.len());
        let orphan = (!used[place]).then(|| orphan_reason(&layer.id, stores));
        // A sound layer's parent is sound, a kept layer's parent is kept, and parents come first. So `None` is a layer
        // without a parent here, never one whose parent was left out.
        let parent = layer.parent.and_then(|parent| places[parent]);
        let uses: Vec<Use> = std::mem::take(&mut uses[place]);
        layers.push(AufsLayer {
            id: layer.id.clone(),
            parent,
            uses,
            is_empty: layer.is_empty,
            orphan,
        });
    }
    layers
}

fn orphan_reason(id: &CacheId, stores: &Stores) -> OrphanReason {
    // First, since it says most: a layer whose deletion had begun is here only because a kept one stands on it,
    // whatever its id looks like.
    if stores.image.layers.removing.contains(id) {
        OrphanReason::Removal
    } else if id.is_buildkit() {
        OrphanReason::NoBuildCache
    } else if id.is_init() {
        OrphanReason::InitWithoutContainer
    } else {
        OrphanReason::Unreferenced
    }
}
